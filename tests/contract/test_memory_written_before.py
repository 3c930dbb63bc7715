"""Conversations as an earlier version has written them: they are read, and gone on with."""

import json

import asyncpg
import pytest
from redis.asyncio import Redis

from servers.domain.chat import Image, Message, Role, Text, ToolCall, says
from servers.domain.memory import Details, Strategy, Turn
from servers.memory.adapters.postgres import MIGRATIONS
from tests.contract.memory_fixture import EXCHANGE, KEY, Database, texts

BODY = {"parts": [{"text": "before"}], "tool_calls": [], "tool_call_id": "", "reasoning": ""}
BEFORE = json.dumps({"role": "user", **BODY}, separators=(",", ":"))
TURN = Turn(0, says(Role.USER, "before"), 7.5, "r0", "ada", 3, "p/m")
ODD = 'half of a pair: \ud800, and a quote: "'
SHOWN = [
    Strategy(),
    Strategy("token_budget", counted_by="p/m"),
    Strategy("summary", summary_threshold=8),
]


async def in_redis(database: Database) -> None:
    tenant = f"{{{database.prefix}:acme}}"
    base = f"{tenant}:session:helper:s1"
    meta = {"next": 1, "created": 7.5, "updated": 7.5, "ttl": 0, "etag": "e"}
    async with Redis.from_url(database.where) as redis:
        await redis.hset(f"{base}:meta", mapping=meta)
        member = json.dumps(["r0", "ada", 7.5, 3, "p/m", BEFORE], separators=(",", ":"))
        await redis.zadd(f"{base}:turns", {f"0:{member}": 0})
        await redis.sadd(f"{base}:marks", "r0")
        await redis.sadd(f"{base}:people", f"{tenant}:principals:ada")
        await redis.zadd(f"{tenant}:principals:ada", {"helper\0s1": 0})
        await redis.zadd(f"{tenant}:sessions:helper", {"s1": 0})


async def in_postgres(database: Database) -> None:
    connection = await asyncpg.connect(database.where)
    try:
        await connection.execute(
            "CREATE TABLE astromesh_schema(part text PRIMARY KEY, version int)"
        )
        await connection.execute("INSERT INTO astromesh_schema VALUES ('conversations', 1)")
        await connection.execute(MIGRATIONS[0])
        await connection.execute(
            "INSERT INTO astromesh_session(tenant, agent, session, next_index, turns, created_at, "
            "updated_at, etag) VALUES ('acme', 'helper', 's1', 1, 1, 7.5, 7.5, 'e')"
        )
        await connection.execute(
            "INSERT INTO astromesh_turn SELECT id, 0, 'r0', 'r0', 'ada', 7.5, 3, 'p/m', $1 "
            "FROM astromesh_session",
            BEFORE.encode(),
        )
    finally:
        await connection.close()


WRITES = {"redis": in_redis, "postgres": in_postgres}


@pytest.mark.parametrize("database", WRITES, indirect=True)
class TestBefore:
    """In SQLite: tests/unit/memory/test_sqlite_conversations.py."""

    @pytest.fixture(autouse=True)
    async def written(self, database):
        await WRITES[database.kind](database)

    async def test_is_shown_under_every_strategy(self, memory):
        assert [texts(await memory.context(KEY, each)) for each in SHOWN] == [["before"]] * 3

    async def test_is_on_record_with_all_that_is_known(self, memory):
        assert (await memory.turns(KEY)).turns == (TURN,)
        assert [each.turn for each in (await memory.export("acme", "ada")).records] == [TURN]

    async def test_is_gone_on_with(self, memory):
        assert await memory.append(KEY, EXCHANGE, "r0") == 1  # which has written already
        assert await memory.append(KEY, EXCHANGE, "r1", Details("ada")) == 3
        assert [turn.index for turn in (await memory.turns(KEY)).turns] == [0, 1, 2]
        assert (await memory.erase("acme", "ada")).turns == 3


async def test_what_json_can_hardly_hold_is_shown_beside_the_rest(database):
    said = [
        says(Role.USER, ODD),
        Message(Role.ASSISTANT, (Image(data=b"\x00\xff", media_type="x/y"), Text("\n, \\"))),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "add", '{"a": 1'),), reasoning="so"),
    ]
    async with database.memory() as memory:
        await memory.append(KEY, said)
        for strategy in SHOWN:
            assert (await memory.context(KEY, strategy)).messages == tuple(said)
