"""How often a database is asked for one thing, as the database or the line to it counts."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from servers.domain.memory import Details, SessionKey, Strategy, Summary
from servers.kernel.sqlite import open_database
from servers.memory.adapters.postgres import open_postgres_conversations
from servers.memory.adapters.redis import open_redis_conversations
from servers.memory.adapters.sqlite import _LATEST, _NEWEST, MIGRATIONS, SqliteConversations
from servers.memory.places import Places
from servers.memory.service import ConversationMemory
from tests.contract.memory_fixture import EXCHANGE, KEY, Clock, Database, numbered
from tests.postgres_proxy import proxy
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

BY = "p/m"
ROLLING = Strategy("summary", summary_threshold=20)
SHOWN = {
    "sliding_window": Strategy(max_turns=20),
    "token_budget": Strategy("token_budget", max_tokens=20 * 60, counted_by=BY),
    "summary": ROLLING,
}


@dataclass
class Counted:
    """A store, and how many questions it has asked so far."""

    store: Any
    asked: Callable[[], Awaitable[int]]

    @property
    def memory(self) -> ConversationMemory:
        @asynccontextmanager
        async def here(_: object) -> AsyncIterator[Any]:
            yield self.store

        return ConversationMemory(Places({}, here), None)

    async def questions(self, work: Callable[[], Awaitable[object]]) -> int:
        await work()  # statements and scripts are made known once
        before = await self.asked()
        await work()
        return await self.asked() - before


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[Counted]:
    """Statements besides those that begin and end what belongs together."""
    said: list[str] = []
    async with open_database(folder / "memory.db", MIGRATIONS, readers=1) as database:
        await database.read(lambda db: db.set_trace_callback(said.append))

        async def asked() -> int:
            return sum(each.startswith("SELECT") for each in said)

        yield Counted(SqliteConversations(database, Clock()), asked)


@asynccontextmanager
async def in_redis(server: RedisServer) -> AsyncIterator[Counted]:
    """How often Redis has read from somebody."""
    database = Database("redis", server.url)
    async with (
        Redis.from_url(server.url) as redis,
        open_redis_conversations(server.url, "a test", database.prefix) as store,
    ):
        asking = 0

        async def asked() -> int:
            nonlocal asking
            asking += 1  # it counts this question, too
            return int((await redis.info("stats"))["total_reads_processed"]) - asking

        yield Counted(store, asked)


@asynccontextmanager
async def in_postgres(server: PostgresServer) -> AsyncIterator[Counted]:
    """Messages on the line to PostgreSQL."""
    async with proxy(server.folder) as line:
        dsn = server.schema().replace(str(server.folder), str(line.folder))
        async with open_postgres_conversations(dsn, "a test", Clock()) as store:

            async def asked() -> int:
                return line.asked

            yield Counted(store, asked)


WHERE = {
    "sqlite": (in_sqlite, "tmp_path"),
    "redis": (in_redis, "redis"),
    "postgres": (in_postgres, "postgres"),
}


@pytest.fixture(params=WHERE)
def opening(request):
    opens, where = WHERE[request.param]
    return opens(request.getfixturevalue(where))


@pytest.fixture
async def counted(opening):
    async with opening as counted:
        yield counted


@pytest.mark.parametrize("strategy", SHOWN.values(), ids=SHOWN)
async def test_what_a_model_is_shown_is_one_question(counted, strategy):
    memory = counted.memory
    await memory.append(KEY, numbered(100), "", Details("ada", (60,) * 100, BY))
    backlog = await memory.backlog(KEY, ROLLING)
    await memory.summarise(KEY, Summary("in short", 90, backlog.etag))

    async def shown() -> None:
        context = await memory.context(KEY, strategy)
        assert len(context.messages) == (10 if context.summary else 20)

    assert await counted.questions(shown) == 1


async def test_a_budget_that_short_turns_leave_room_in_is_few_questions(counted):
    memory = counted.memory
    await memory.append(KEY, numbered(1000), "", Details("ada", (10,) * 1000, BY))
    wide = Strategy("token_budget", max_tokens=4800, counted_by=BY)

    async def shown() -> None:
        assert len((await memory.context(KEY, wide)).messages) == 480

    assert await counted.questions(shown) == 4


@pytest.mark.parametrize("opening", ["redis", "postgres"], indirect=True)
async def test_an_exchange_is_one_question(counted):
    runs = iter(["r1", "r2"])

    async def keep() -> None:
        await counted.memory.append(KEY, EXCHANGE, next(runs), Details("ada"))

    assert await counted.questions(keep) == 1
    assert len((await counted.memory.turns(KEY)).turns) == 4


async def test_a_page_of_turns_is_one_question(counted):
    await counted.memory.append(KEY, numbered(10))
    assert await counted.questions(lambda: counted.memory.turns(KEY, 5)) == 1


async def test_a_session_that_is_not_there_is_one_question(counted):
    nobody = SessionKey("acme", "helper", "nobody")
    assert await counted.questions(lambda: counted.memory.context(nobody, Strategy())) == 1


def test_the_newest_messages_are_found_by_index_in_sqlite(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "memory.db")) as db:
        for each in MIGRATIONS:
            db.executescript(each)
        for sql in (_LATEST, _NEWEST):
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", ("",) * 6)]
            assert not [step for step in plan if "SCAN turn" in step or "TEMP B-TREE" in step]
