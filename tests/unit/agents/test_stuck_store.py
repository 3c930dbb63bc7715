"""A PostgreSQL that takes nothing: somebody holds the lock that every write needs."""

import asyncio
import contextlib

import asyncpg
import pytest

from servers.agents.runs.record.journal import CHUNK_EVENTS, MOST_UNWRITTEN
from servers.domain.run_events import TextDelta
from servers.domain.runs import Durability, RunRequest, RunState
from servers.kernel.errors import Unavailable
from tests.running import agent, write_agents
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server
from tests.unit.agents.troubled import ASK, ME, World, ended

PIECES = 8 * MOST_UNWRITTEN
LONG = Reply(tuple(f"{number} " for number in range(PIECES)))
UNWRITTEN = RunRequest("helper", "hello?", durability=Durability.NONE)


@contextlib.asynccontextmanager
async def stuck(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE astromesh_run, astromesh_run_event IN SHARE MODE")
            yield  # what is there can be read
    finally:
        await connection.close()


@pytest.fixture
def world(tmp_path, postgres):
    @contextlib.asynccontextmanager
    async def made(*replies):
        async with openai_server(*replies) as model:
            write_agents(tmp_path, agent("helper", model.endpoint))
            yield World(tmp_path, model, postgres.schema())

    return made


def said(log) -> int:
    return sum(isinstance(each.payload, TextDelta) for each in log.events)


async def full(journal):
    async with asyncio.timeout(30):
        while not journal.full:  # noqa: ASYNC110  # nobody is told of that
            await asyncio.sleep(0.005)


async def test_lets_the_model_wait_instead_of_keeping_all_it_says_in_memory(world):
    go = asyncio.Event()
    long = Reply(LONG.pieces, hold=go)
    async with world(long) as here, here.runtime() as (runtime, _):
        run = await runtime.create_run(ME, ASK)
        execution = runtime._active.get(ME.tenant, run.id)
        await here.model.asked.wait()
        async with stuck(here.dsn):
            go.set()
            await full(execution.journal)
            for _ in range(20):  # the rest would have come by now
                await asyncio.sleep(0.01)
            assert said(execution.log) <= MOST_UNWRITTEN + 2 * CHUNK_EVENTS < PIECES
        done = await ended(runtime, run.id)
    assert done.answer == "".join(LONG.pieces)


async def test_gets_no_new_runs_until_it_writes_again(world):
    async with (
        world(Reply(("one",)), Reply(("two",)), Reply(("three",))) as here,
        here.runtime(stuck_seconds=0.05) as (runtime, store),
    ):
        async with stuck(here.dsn):
            first = asyncio.create_task(runtime.create_run(ME, ASK))
            await store.reached["create"].wait()
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable) as refused:
                await runtime.create_run(ME, ASK)
            assert refused.value.reason == "STORE_STUCK"
            assert (await runtime.run(ME, UNWRITTEN)).state is RunState.COMPLETED
        run = await first
        assert (await ended(runtime, run.id)).state is RunState.COMPLETED
        assert (await runtime.run(ME, ASK)).state is RunState.COMPLETED
