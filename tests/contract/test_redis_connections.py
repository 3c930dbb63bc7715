"""What asking Redis over our own connections owes: the right answer to each, or an error."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as Late

from servers.kernel.errors import Unavailable
from servers.memory.adapters.redis_connections import Script, open_connections
from tests.patience import until

ECHO = Script.of("return ARGV[1]")


@pytest.fixture
async def connections(redis):
    async with open_connections(redis.url) as connections:
        yield connections


@pytest.fixture
async def beside(redis):
    """Somebody else who talks with the same server."""
    async with Redis.from_url(redis.url) as client:
        yield client


async def test_each_of_many_at_once_gets_its_own_answer(connections):
    words = [str(n).encode() for n in range(100)]
    assert await asyncio.gather(*(connections.ask("ECHO", word) for word in words)) == words


async def test_questions_at_one_go_are_answered_in_their_order(connections):
    asked = [("ECHO", "a"), ("ECHO", b"\r\n"), ("ECHO", 1)]
    assert await connections.ask_all(asked) == [b"a", b"\r\n", b"1"]


async def test_who_leaves_does_not_leave_his_answer_to_the_next(connections, beside):
    asking = asyncio.create_task(connections.ask("BLPOP", "nothing-there", 0))
    await until(lambda: blocked(beside))
    asking.cancel()
    await asyncio.wait([asking])
    assert await connections.ask("ECHO", "mine") == b"mine"


async def test_no_answer_in_time_is_an_error_and_not_the_next_ones_answer(redis):
    async with open_connections(redis.url, answer=0.05) as hasty:
        with pytest.raises(Late):
            await hasty.ask("BLPOP", "nothing-there", 0)
        assert hasty.idle == 0


async def test_where_one_gives_no_answer_those_opened_before_are_not_asked(redis):
    async with open_connections(redis.url, answer=0.3) as hasty:

        async def some_are_open() -> bool:
            asking = (hasty.ask("PING") for _ in range(4))
            await asyncio.gather(*asking, return_exceptions=True)
            return hasty.idle > 1

        await until(some_are_open)
        with pytest.raises(Late):
            await hasty.ask("BLPOP", "nothing-there", 0)
        assert hasty.idle == 0


async def test_a_server_that_has_become_a_replica_is_left(connections, beside):
    await connections.ask("SET", "a", 1)
    await beside.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            await connections.ask("SET", "a", 2)
        assert connections.idle == 0
    finally:
        await beside.replicaof("NO", "ONE")


async def test_a_connection_in_use_is_closed_as_soon_as_it_is_not(redis, beside):
    async with open_connections(redis.url) as connections:
        known = await connections.ask("CLIENT", "ID")
        asking = asyncio.create_task(connections.ask("BLPOP", "a-list", 0))
        await until(lambda: blocked(beside))
    await beside.rpush("a-list", "said")
    assert await asking == [b"a-list", b"said"]
    await until(lambda: gone(beside, known))
    with pytest.raises(Unavailable):
        await connections.ask("PING")


async def test_an_address_may_say_that_fewer_are_open(redis, beside):
    before = (await beside.info("stats"))["total_connections_received"]
    async with open_connections(f"{redis.url}?max_connections=2") as connections:
        await asyncio.gather(*(connections.ask("PING") for _ in range(20)))
    assert (await beside.info("stats"))["total_connections_received"] - before <= 2


async def test_an_option_that_there_is_not_is_an_error_of_the_address(redis):
    with pytest.raises(ValueError, match="option"):
        async with open_connections(f"{redis.url}?colour=red"):
            pass


async def blocked(beside) -> bool:
    return bool((await beside.info("clients"))["blocked_clients"])


async def gone(beside, known: int) -> bool:
    return known not in [int(each["id"]) for each in await beside.client_list()]


async def test_what_is_refused_costs_neither_the_others_nor_the_connection(connections):
    with pytest.raises(ResponseError, match="unknown command"):
        await connections.ask_all([("ECHO", "a"), ("NONSENSE",), ("ECHO", "b")])
    assert connections.idle == 1
    assert await connections.ask("ECHO", "c") == b"c"


async def test_a_script_that_the_server_has_forgotten_is_told_again(connections, beside):
    assert await connections.run(ECHO, [], ["a"]) == b"a"
    await beside.script_flush()
    assert await connections.run(ECHO, [], ["b"]) == b"b"


async def test_a_connection_that_the_server_has_closed_is_not_used_again(connections, beside):
    known = await connections.ask("CLIENT", "ID")
    await beside.client_kill_filter(_id=known)
    async with asyncio.timeout(30):  # until this end has heard of it
        while (answer := await asked_again(connections)) == known:
            pass
    assert answer > known


async def asked_again(connections) -> int:
    try:
        return await connections.ask("CLIENT", "ID")
    except Lost:  # the very moment
        return await connections.ask("CLIENT", "ID")


async def test_no_more_than_sixteen_are_open(connections, beside):
    before = (await beside.info("stats"))["total_connections_received"]
    await asyncio.gather(*(connections.ask("PING") for _ in range(200)))
    assert (await beside.info("stats"))["total_connections_received"] - before <= 16
