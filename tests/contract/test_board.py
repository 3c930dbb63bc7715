"""What replicas tell one another of breakers, over a real Redis."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf

import pytest

from servers.domain.chat import ChatRequest, ModelRef, Role, says
from servers.domain.models import BreakerState
from servers.kernel.errors import Unavailable
from servers.router.adapters.pool import open_providers
from servers.router.adapters.redis.board import RedisBoard, open_board
from servers.router.adapters.redis.client import open_redis
from servers.router.ports import Retries, RouterSettings
from servers.router.service import ModelRouter
from tests.contract.router_fixture import Clock, provider
from tests.patience import PATIENCE
from tests.redis_server import RedisServer, redis_server
from tests.scripted.http_server import Reply, refuses
from tests.scripted.openai_server import openai_server

KEY = ("company", "http://company/v1", "large")
CHANGES = "test:breaker:changes"
ASK = ChatRequest((says(Role.USER, "hello"),), (ModelRef("company", "m"),))


@pytest.fixture
async def redis(tmp_path):
    async with redis_server(tmp_path) as server:
        yield server


class Heard:
    """What one replica hears of the others."""

    def __init__(self) -> None:
        self.said: asyncio.Queue = asyncio.Queue()

    def __call__(self, key, seconds) -> None:
        self.said.put_nowait((key, seconds))

    async def next(self):
        return await asyncio.wait_for(self.said.get(), PATIENCE)


@asynccontextmanager
async def board(redis: RedisServer):
    async with open_redis(redis.url) as client, open_board(client, "test:") as opened:
        yield opened


@asynccontextmanager
async def listening(board: RedisBoard):
    heard = Heard()
    task = asyncio.create_task(board.listen(heard))
    try:
        yield heard
    finally:
        task.cancel()


@asynccontextmanager
async def replica(redis: RedisServer, folder, endpoint: str, clock: Clock | None = None):
    """A router as it stands in each of several processes."""
    settings = RouterSettings(
        {"company": provider("company", endpoint)}, retries=Retries(max_retries=0)
    )
    async with open_providers(folder) as pool, board(redis) as shared:
        more = {"now": clock} if clock else {}
        router = ModelRouter(settings, pool, env={}, board=shared, **more)
        ears = asyncio.create_task(router.hear_replicas())
        try:
            yield router
        finally:
            ears.cancel()


async def heard_by(redis: RedisServer, count: int) -> None:
    """Return once so many replicas listen: what is said before that they don't hear."""
    async with open_redis(redis.url) as client, asyncio.timeout(PATIENCE):
        while dict(await client.pubsub_numsub(CHANGES))[CHANGES] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def breaker(router: ModelRouter):
    (info,) = await router.providers()
    return info.breakers[0].state if info.breakers else None


async def until(router: ModelRouter, state: BreakerState) -> None:
    async with asyncio.timeout(PATIENCE):
        while await breaker(router) is not state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_done(calls, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while sum(each.done() for each in calls) < count:
            open_ = [each for each in calls if not each.done()]
            await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)


class TestABoard:
    async def test_tells_others_of_a_breaker_that_opened(self, redis):
        async with board(redis) as mine, board(redis) as other, listening(other) as heard:
            await heard_by(redis, 1)
            mine.opened(KEY, 3000.0)
            key, seconds = await heard.next()
        assert key == KEY
        assert 2000 < seconds <= 3000

    async def test_tells_others_of_one_that_closed(self, redis):
        async with board(redis) as mine, board(redis) as other, listening(other) as heard:
            await heard_by(redis, 1)
            mine.closed(KEY)
            assert await heard.next() == (KEY, 0.0)

    async def test_tells_of_one_that_was_opened_by_hand(self, redis):
        async with board(redis) as mine, board(redis) as other, listening(other) as heard:
            await heard_by(redis, 1)
            mine.opened(KEY, inf)
            assert await heard.next() == (KEY, inf)

    async def test_tells_a_late_comer_what_is_open(self, redis):
        async with board(redis) as mine:
            mine.opened(KEY, 3000.0)
        async with board(redis) as late, listening(late) as heard:
            key, seconds = await heard.next()
        assert key == KEY
        assert 2000 < seconds <= 3000

    async def test_tells_a_late_comer_nothing_of_what_has_closed(self, redis):
        async with board(redis) as mine, board(redis) as other, listening(other) as heard:
            await heard_by(redis, 1)
            mine.opened(KEY, 3000.0)
            await heard.next()
            mine.closed(KEY)
            while (await heard.next())[1]:
                pass
        async with board(redis) as late, listening(late) as heard:
            await asyncio.sleep(0.2)
            assert heard.said.empty()

    async def test_does_not_tell_one_what_one_said_oneself(self, redis):
        async with board(redis) as mine, listening(mine) as heard:
            await heard_by(redis, 1)
            mine.opened(KEY, 3000.0)
            await asyncio.sleep(0.2)
            assert heard.said.empty()

    async def test_gives_the_probe_to_one_of_many(self, redis):
        async with AsyncExitStack() as stack:
            boards = [await stack.enter_async_context(board(redis)) for _ in range(5)]
            mine = await asyncio.gather(*(each.probe(KEY, 600.0) for each in boards * 10))
        assert sum(mine) == 1

    async def test_gives_the_probe_anew_where_nobody_heard_of_the_first(self, redis):
        async with board(redis) as one, board(redis) as two:
            assert await one.probe(KEY, 0.05)
            await asyncio.sleep(0.1)
            assert await two.probe(KEY, 10.0)

    async def test_keeps_nobody_from_working_when_redis_is_away(self, redis):
        async with board(redis) as mine:
            await redis.stop()
            mine.opened(KEY, 30.0)
            assert await mine.probe(KEY, 1.0)

    async def test_is_heard_again_once_redis_is_back(self, redis):
        async with board(redis) as mine, board(redis) as other, listening(other) as heard:
            await heard_by(redis, 1)
            await redis.stop()
            await redis.start()
            async with asyncio.timeout(PATIENCE):
                while heard.said.empty():
                    mine.opened(KEY, 3000.0)
                    await asyncio.sleep(0.2)
        assert (await heard.next())[0] == KEY


class TestReplicas:
    async def test_leave_alone_what_another_found_to_be_down(self, redis, tmp_path):
        async with (
            openai_server(refuses(500)) as down,
            replica(redis, tmp_path, down.endpoint) as one,
            replica(redis, tmp_path, down.endpoint) as two,
        ):
            await heard_by(redis, 2)
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await one.complete(ASK)
            await until(two, BreakerState.OPEN)
            with pytest.raises(Unavailable, match="is left alone"):
                await two.complete(ASK)
        assert len(down.requests) == 3

    async def test_send_one_probe_together(self, redis, tmp_path):
        clock, held = Clock(), asyncio.Event()
        failing = [refuses(500)] * 3
        async with (
            openai_server(*failing, Reply(hold=held)) as server,
            replica(redis, tmp_path, server.endpoint, clock) as one,
            replica(redis, tmp_path, server.endpoint, clock) as two,
        ):
            await heard_by(redis, 2)
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await one.complete(ASK)
            await until(two, BreakerState.OPEN)
            clock.now = 61.0
            calls = [asyncio.create_task(router.complete(ASK)) for router in (one, two) * 25]
            await until_done(calls, len(calls) - 1)
            held.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert len(server.requests) == 4
            assert sum(not isinstance(each, Exception) for each in outcomes) == 1
            await until(one, BreakerState.CLOSED)
            await until(two, BreakerState.CLOSED)

    async def test_do_as_one_of_them_was_told_by_hand(self, redis, tmp_path):
        async with (
            openai_server() as up,
            replica(redis, tmp_path, up.endpoint) as one,
            replica(redis, tmp_path, up.endpoint) as two,
        ):
            await heard_by(redis, 2)
            await one.update_breaker("company", "", BreakerState.OPEN)
            await until(two, BreakerState.OPEN)
            await two.update_breaker("company", "", BreakerState.CLOSED)
            await until(one, BreakerState.CLOSED)
