"""What the tests of patterns share: a mesh with one agent, reached both ways."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.run_events import BranchEnded, BranchStarted
from servers.domain.runs import RunRequest
from tests.patience import PATIENCE
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.knowing_server import knowing_server

ME = Caller("acme")
ASK = RunRequest("helper", "How far is the moon?")
ADD = Call("calculator", '{"expression": "2+3"}')
TOOLS = [{"name": "calculator"}]
ANYTHING = Reply(("?",))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that answers by what it is asked: the agents, and the model.

    `roles`: the model of each role, all on the same server.
    """

    @contextlib.asynccontextmanager
    async def started(answers, otherwise=ANYTHING, roles=None, **spec):
        async with knowing_server(answers, otherwise) as model:
            manifest = agent("helper", model.endpoint, **spec)
            policy = manifest["spec"]["model"]
            policy["roles"] = {
                role: {"candidates": [{**policy["primary"], "model": name}]}
                for role, name in (roles or {}).items()
            }
            async with mesh_of(tmp_path, manifest) as mesh, reached(mesh) as agents:
                yield agents, model

    return started


def says(*pieces):
    return Reply(pieces)


async def told(events):
    async with aclosing(events):
        return [event async for event in events]


async def requests(model, number):
    """Return when so many requests have arrived."""
    async with asyncio.timeout(PATIENCE):
        while len(model.requests) < number:
            model.asked.clear()
            await model.asked.wait()


def payloads(events, kind):
    return [event.payload for event in events if isinstance(event.payload, kind)]


def parts(events):
    """Of each part of the run: where it hangs, what it is, and whether it failed."""
    failed = {end.node for end in payloads(events, BranchEnded) if end.failure}
    return {
        start.node: (start.parent, start.kind.value, start.name, start.node in failed)
        for start in payloads(events, BranchStarted)
    }
