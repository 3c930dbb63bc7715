"""What the tests of sub-agents share: an agent that works through another."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import RunFilter, RunRequest
from tests.patience import PATIENCE
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ada")
ASK = RunRequest("lead", "what is new?")
WORKER = [{"name": "worker", "type": "agent"}]
PAYS = [{"name": "calculator", "requires_approval": True}]
SUM = Call("calculator", '{"expression": "2+3"}')


def asks(query="find out", name="worker", id="call_1"):
    return Call(name, f'{{"query": "{query}"}}', id)


LEADS = Reply((), calls=[asks()]), Reply(("All is well",))
WORKS = (Reply(("Nothing",)),)
ASKS_FIRST = Reply((), calls=[SUM]), Reply(("It is 5",))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """`lead` with the sub-agent `worker`, each on a model of its own."""

    @contextlib.asynccontextmanager
    async def started(leads=LEADS, works=WORKS, lead=None, **worker):
        async with (
            openai_server(*leads) as above,
            openai_server(*works) as below,
            mesh_of(
                tmp_path,
                agent("lead", above.endpoint, **({"tools": WORKER} | (lead or {}))),
                agent("worker", below.endpoint, **worker),
            ) as mesh,
            reached(mesh) as agents,
        ):
            yield agents, above, below

    return started


async def seen(events):
    async with asyncio.timeout(PATIENCE), aclosing(events):
        return [event async for event in events]


def of(events, kind):
    return [event.payload for event in events if isinstance(event.payload, kind)]


async def children(agents, run_id):
    return (await agents.list_runs(ME, RunFilter(parent=run_id))).runs


def observed(model, request=-1):
    return model.requests[request].body["messages"][-1]["content"]
