"""Scripts that are asked for at once go out together, and each gets its own answer."""

import asyncio

import pytest
from redis.exceptions import RedisError, ResponseError

from servers.router.adapters.redis.batches import Batches
from servers.router.adapters.redis.client import open_redis
from tests.redis_server import redis_server

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
FAIL = "return redis.call('INCRBY', KEYS[1], 'no number')"


@pytest.fixture
async def server(tmp_path):
    async with redis_server(tmp_path) as started:
        yield started


@pytest.fixture
async def redis(server):
    async with open_redis(server.url) as client:
        yield client


@pytest.fixture
async def batches(redis):
    made = Batches(redis)
    yield made
    await made.aclose()


async def test_answers_come_in_the_order_of_the_questions(redis, batches):
    add = redis.register_script(ADD)
    await batches.ask(add, ["sum"], [1])
    asked = [batches.ask(add, ["sum"], [1]) for _ in range(500)]
    assert await asyncio.gather(*asked) == list(range(2, 502))


async def test_questions_at_once_share_their_round_trips(redis, batches):
    add = redis.register_script(ADD)
    await batches.ask(add, ["sum"], [1])
    before = (await redis.info("stats"))["total_reads_processed"]
    await asyncio.gather(*(batches.ask(add, ["sum"], [1]) for _ in range(500)))
    after = (await redis.info("stats"))["total_reads_processed"]
    assert after - before < 50


async def test_a_script_that_redis_has_forgotten_is_told_again(redis, batches):
    add = redis.register_script(ADD)
    await batches.ask(add, ["sum"], [1])
    await redis.script_flush()
    asked = [batches.ask(add, ["sum"], [1]) for _ in range(10)]
    assert sorted(await asyncio.gather(*asked)) == list(range(2, 12))


async def test_a_script_that_fails_fails_alone(redis, batches):
    add, fail = redis.register_script(ADD), redis.register_script(FAIL)
    one, other, third = await asyncio.gather(
        batches.ask(add, ["sum"], [1]),
        batches.ask(fail, ["sum"], []),
        batches.ask(add, ["sum"], [1]),
        return_exceptions=True,
    )
    assert (one, third) == (1, 2)
    assert isinstance(other, ResponseError)


async def test_whoever_asks_while_redis_is_away_hears_so(server, redis, batches):
    add = redis.register_script(ADD)
    await server.stop()
    asked = [batches.ask(add, ["sum"], [1]) for _ in range(10)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, RedisError | OSError) for answer in answers)
    await server.start()
    assert await batches.ask(add, ["sum"], [1]) == 1


async def test_whoever_leaves_does_not_stop_his_script(redis, batches):
    add = redis.register_script(ADD)
    leaving = asyncio.create_task(batches.ask(add, ["sum"], [1]))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await batches.ask(add, ["sum"], [1]) == 2


async def test_whoever_waits_at_the_end_hears_that_nobody_answers(redis):
    batches = Batches(redis)
    add = redis.register_script(ADD)
    waiting = [asyncio.create_task(batches.ask(add, ["sum"], [1])) for _ in range(3)]
    await asyncio.sleep(0)
    await batches.aclose()
    for each in waiting:
        with pytest.raises(RedisError):
            await each
