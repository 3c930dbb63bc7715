"""What the tests of runs that wait share: an agent that must ask before it acts."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import Decision, RunRequest, Verdict
from tests.patience import PATIENCE
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ann")
ASK = RunRequest("helper", "hello?")
ADD = Call("calculator", '{"expression": "2+3"}')
WANTS, DONE = Reply((), calls=[ADD]), Reply(("It is 5",))
CAREFUL = [{"name": "calculator", "requires_approval": True}]
APPROVE = Decision("", Verdict.APPROVE)


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that says `replies`; gives the agents and the model server."""

    @contextlib.asynccontextmanager
    async def started(*replies, **spec):
        async with (
            openai_server(*replies) as model,
            mesh_of(tmp_path, agent("helper", model.endpoint, **spec)) as mesh,
            reached(mesh) as agents,
        ):
            yield agents, model, mesh

    return started


async def seen(events):
    async with asyncio.timeout(PATIENCE), aclosing(events):
        return [event async for event in events]
