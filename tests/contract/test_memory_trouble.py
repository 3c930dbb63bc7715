"""Conversations while their servers are killed: what was acknowledged is there, once."""

import asyncio
import signal
from contextlib import suppress
from functools import partial

import pytest
from redis.asyncio import Redis as Client

from servers.domain.chat import Role, says
from servers.domain.memory import Details, SessionKey
from servers.kernel.errors import Unavailable
from tests.contract.memory_fixture import DURABLE, EXCHANGE, KEY, Database, indexes
from tests.patience import PATIENCE, until
from tests.redis_server import redis_server

WRITERS = 4


class Redis:
    def __init__(self, server):
        self.server, self.database = server, Database("redis", server.url)

    async def kill(self) -> None:
        self.server.process.kill()
        await self.server.process.wait()

    async def start(self) -> None:
        await self.server.start()


class Postgres:
    def __init__(self, server):
        self.server, self.database = server, Database("postgres", server.schema())

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.stop, signal.SIGQUIT)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture(params=["redis", "postgres"])
async def server(request, tmp_path):
    if request.param == "postgres":
        yield Postgres(request.getfixturevalue("fragile"))
        return
    async with redis_server(tmp_path, *DURABLE) as server:
        yield Redis(server)


async def writing(memory, key: SessionKey, acknowledged: list[str], stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        run = f"run-{number}"
        asked = says(Role.USER, run), says(Role.ASSISTANT, run)
        try:
            await memory.append(key, asked, run, Details("ada"))
        except Unavailable:
            continue  # the same run again
        acknowledged.append(run)
        number += 1


async def all_of(pages, field: str) -> list:
    found, token = [], ""
    while True:
        page = await pages(token)
        found += getattr(page, field)
        if not (token := page.next_page_token):
            return found


async def test_what_was_acknowledged_is_there_once_in_order(server):
    keys = [SessionKey("acme", "helper", f"s{n}") for n in range(WRITERS)]
    said: list[list[str]] = [[] for _ in keys]
    stop = asyncio.Event()
    async with server.database.memory() as memory:
        writers = [
            asyncio.create_task(writing(memory, key, runs, stop))
            for key, runs in zip(keys, said, strict=True)
        ]
        for _ in range(3):
            before = min(map(len, said))
            async with asyncio.timeout(PATIENCE):
                while min(map(len, said)) < before + 20:  # noqa: ASYNC110  # writers at work
                    await asyncio.sleep(0.01)
            await server.kill()
            await asyncio.sleep(0.3)
            await server.start()
        stop.set()
        await asyncio.wait_for(asyncio.gather(*writers), PATIENCE)
        for key, runs in zip(keys, said, strict=True):
            turns = await all_of(partial(memory.turns, key, 1000), "turns")
            assert [turn.run_id for turn in turns[::2]][: len(runs)] == runs
            assert [turn.index for turn in turns] == list(range(len(turns)))
            assert all(a.run_id == b.run_id for a, b in zip(turns[::2], turns[1::2], strict=True))
        records = await all_of(partial(memory.export, "acme", "ada", 1000), "records")
        kept = [await all_of(partial(memory.turns, key, 1000), "turns") for key in keys]
        assert len(records) == sum(map(len, kept))  # an erasure would find all of them


async def test_a_restart_costs_time_and_nothing_else(server):
    async with server.database.memory() as memory:
        await memory.append(KEY, EXCHANGE, "r1")
        await server.kill()
        waiting = asyncio.create_task(memory.append(KEY, EXCHANGE, "r2"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await server.start()
        assert await waiting == 4


@pytest.mark.parametrize("server", ["redis"], indirect=True)
async def test_what_a_replica_refuses_waits_until_somebody_writes_again(server):
    async with server.database.memory() as memory, Client.from_url(server.server.url) as beside:
        await memory.append(KEY, EXCHANGE, "r1")
        await beside.replicaof("127.0.0.1", 1)
        waiting = asyncio.create_task(memory.append(KEY, EXCHANGE, "r2"))
        await until(lambda: refused(beside))
        assert not waiting.done()
        await beside.replicaof("NO", "ONE")
        assert await waiting == 4


@pytest.mark.parametrize("server", ["redis"], indirect=True)
async def test_what_is_lost_when_its_time_is_over_is_tried_once_more(server):
    server.database.patience = 0.0  # as where the whole process stood still for long
    async with server.database.memory() as memory, Client.from_url(server.server.url) as beside:
        await memory.append(KEY, EXCHANGE, "r1")
        await beside.client_pause(60_000, all=False)
        waiting = asyncio.create_task(memory.append(KEY, EXCHANGE, "r2"))
        asking = await until(lambda: held_up(beside))
        await beside.client_kill_filter(_id=asking["id"])
        await beside.client_unpause()
        assert await waiting == 4


async def held_up(beside) -> dict | None:
    """The one whose question waits for the end of a pause."""
    return next((each for each in await beside.client_list() if "b" in each["flags"]), None)


async def refused(beside) -> bool:
    return "errorstat_READONLY" in await beside.info("errorstats")


async def test_an_exchange_without_a_run_is_added_once_over_a_restart(server):
    async with server.database.memory() as memory:
        await memory.append(KEY, EXCHANGE)
        await server.kill()
        waiting = [asyncio.create_task(memory.append(KEY, EXCHANGE)) for _ in range(5)]
        await asyncio.sleep(0.2)
        await server.start()
        assert sorted([await each for each in waiting]) == [4, 6, 8, 10, 12]
        assert indexes(await memory.turns(KEY)) == list(range(12))


async def test_a_server_that_stays_away_is_named_without_its_password(server):
    async with server.database.memory() as memory:
        await memory.append(KEY, EXCHANGE)
        await server.kill()
        with pytest.raises(Unavailable) as failed:
            await memory.check("sqlite")  # as the place is called, whatever it is here
        assert failed.value.reason == "STORE_UNAVAILABLE"
        await server.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(Unavailable):
                    return await memory.check("sqlite")


async def test_tidying_up_without_its_server_is_an_error_that_is_named(server):
    server.database.patience = 0.3
    async with server.database.store() as store:
        await server.kill()
        with pytest.raises(Unavailable):
            await store.sweep()
        await server.start()
