"""How long conversations live, and what can be listed, handed out and erased of them."""

import pytest
from redis.asyncio import Redis

from servers.domain.chat import Role, says
from servers.domain.memory import Details, MemoryContext, SessionKey, Strategy, Summary, TurnPage
from servers.kernel.errors import InvalidInput
from servers.memory.adapters.redis_keys import sessions_of, tenant_tag
from tests.contract.memory_fixture import EXCHANGE, KEY, START, indexes, numbered

ROLLING = Strategy("summary", summary_threshold=8)
ADA, BOB = Details("ada"), Details("bob")
OTHER = SessionKey("acme", "other", "s1")


def session(name: str, agent: str = "helper") -> SessionKey:
    return SessionKey("acme", agent, name)


@pytest.fixture
def pass_time(database):
    """Lets a session's time pass."""

    async def passing(seconds: float) -> None:
        database.clock.now += seconds
        if database.kind == "redis":  # which has a clock of its own, that nobody can set
            await earlier(database, seconds)

    return passing


async def earlier(database, seconds: float) -> None:
    """All that is to end ends so much earlier, as if so much time had gone by."""
    async with Redis.from_url(database.where, decode_responses=True) as redis:
        for key in [key async for key in redis.scan_iter(f"{{{database.prefix}:*")]:
            if key.endswith(":expiring"):
                for entry, _ in await redis.zrange(key, 0, -1, withscores=True):
                    await redis.zincrby(key, -seconds * 1000, entry)
            if key.endswith(":meta") and await redis.hexists(key, "ends"):
                await redis.hincrbyfloat(key, "ends", -seconds)
            if (ends := await redis.pexpiretime(key)) > 0:
                await redis.pexpireat(key, ends - int(seconds * 1000))


class TestASessionWithATime:
    async def test_is_there_until_it_is_over(self, memory, pass_time):
        await memory.append(KEY, EXCHANGE, "", Details(ttl=40.0))
        await pass_time(10)
        assert len((await memory.turns(KEY)).turns) == 2

    async def test_is_empty_when_it_is_over(self, memory, pass_time):
        await memory.append(KEY, EXCHANGE, "", Details("ada", ttl=20.0))
        await pass_time(30)
        assert await memory.turns(KEY) == TurnPage(())
        assert await memory.context(KEY, Strategy()) == MemoryContext()
        assert (await memory.sessions("acme", "helper")).sessions == ()
        assert (await memory.export("acme", "ada")).records == ()
        assert await memory.clear(KEY) == 0

    async def test_lives_on_with_each_turn(self, memory, pass_time):
        for _ in range(3):
            await memory.append(KEY, EXCHANGE, "", Details(ttl=50.0))
            await pass_time(30)
        assert len((await memory.turns(KEY)).turns) == 6

    async def test_keeps_its_time_where_nothing_is_said_of_it(self, memory, pass_time):
        await memory.append(KEY, EXCHANGE, "", Details(ttl=40.0))
        await memory.append(KEY, EXCHANGE)
        await pass_time(50)
        assert await memory.turns(KEY) == TurnPage(())

    async def test_can_be_told_to_stay(self, memory, pass_time):
        await memory.append(KEY, EXCHANGE, "", Details(ttl=20.0))
        await memory.append(KEY, EXCHANGE, "", Details(ttl=0.0))
        await pass_time(30)
        assert len((await memory.turns(KEY)).turns) == 4

    async def test_begins_anew_when_it_is_over(self, memory, pass_time):
        await memory.append(KEY, numbered(10), "run-1", Details(ttl=20.0))
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.summarise(KEY, Summary("old", 8, backlog.etag))
        await pass_time(30)
        assert await memory.append(KEY, EXCHANGE, "run-1") == 2
        assert indexes(await memory.turns(KEY)) == [0, 1]
        assert (await memory.context(KEY, ROLLING)).summary == ""

    async def test_is_removed_when_it_is_over(self, database, pass_time):
        async with database.memory() as memory:
            await memory.append(KEY, EXCHANGE, "", Details(ttl=20.0))
            await memory.append(OTHER, EXCHANGE, "", Details(ttl=60.0))
        await pass_time(30)
        async with database.store() as store:
            removed = 0 if database.kind == "redis" else 1  # Redis has done so itself
            assert [await store.sweep(), await store.sweep()] == [removed, 0]
            assert len(await store.page(OTHER, -1, 9)) == 2


only_redis = pytest.mark.parametrize("database", ["redis"], indirect=True)


class TestNames:
    """What a list of names says must not outlive what it names: Redis keeps lists of its own."""

    @only_redis
    async def test_are_gone_with_the_last_session(self, database, pass_time):
        async with database.memory() as memory:
            await memory.append(session("long"), EXCHANGE, "", Details("ada", ttl=50.0))
            await memory.append(session("short"), EXCHANGE, "", Details("ada", ttl=10.0))
            await pass_time(20)
            assert len((await memory.export("acme", "ada")).records) == 2
            await pass_time(40)
        assert await keys_of(database) == ["expiring"]  # until somebody writes, or it is swept
        async with database.store() as store:
            await store.sweep()
        assert await keys_of(database) == []

    @only_redis
    async def test_stay_with_a_session_that_has_no_end(self, database, pass_time):
        async with database.memory() as memory:
            await memory.append(session("long"), EXCHANGE, "", Details("ada"))
            await memory.append(session("short"), EXCHANGE, "", Details("ada", ttl=10.0))
            await pass_time(20)
            assert len((await memory.export("acme", "ada")).records) == 2
            await memory.append(session("other"), EXCHANGE, "", Details("bob"))
            names = await names_of(database)
            await memory.erase("acme", "ada")
            await memory.clear(session("other"))
        assert names == {"long", "other"}  # the next write has removed the short one's
        assert await keys_of(database) == []

    async def test_of_all_who_spoke_live_on_with_the_session(self, database, pass_time):
        async with database.memory() as memory:
            await memory.append(KEY, EXCHANGE, "", Details("ada", ttl=20.0))
            await memory.append(KEY, EXCHANGE, "", Details("bob", ttl=60.0))
            await pass_time(30)
            await memory.append(OTHER, EXCHANGE, "", Details("eve"))  # which tidies up
            assert (await memory.erase("acme", "ada")).turns == 2
            assert len((await memory.turns(KEY)).turns) == 2


async def names_of(database) -> set[str]:
    key = sessions_of(tenant_tag(database.prefix, "acme"), "helper")
    async with Redis.from_url(database.where, decode_responses=True) as redis:
        return set(await redis.zrange(key, 0, -1))


async def keys_of(database) -> list[str]:
    async with Redis.from_url(database.where, decode_responses=True) as redis:
        found = [key async for key in redis.scan_iter(f"{{{database.prefix}:*")]
    return [key.partition("}:")[2] for key in found]


class TestSessions:
    async def test_are_listed_with_what_is_known_of_them(self, memory, database):
        await memory.append(KEY, numbered(10))
        database.clock.now += 5
        await memory.append(KEY, EXCHANGE, "", Details(ttl=60.0))
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.summarise(KEY, Summary("s", 8, backlog.etag))
        (found,) = (await memory.sessions("acme", "helper")).sessions
        assert (found.key, found.turns, found.summary) == (KEY, 12, "s")
        assert (found.created_at, found.updated_at) == (START, START + 5)
        assert found.expires_at is not None
        assert found.backend == "sqlite"  # what the place is called, whatever it is here

    async def test_have_no_end_where_none_is_set(self, memory):
        await memory.append(KEY, EXCHANGE)
        assert (await memory.sessions("acme", "helper")).sessions[0].expires_at is None

    async def test_come_in_pages_by_name(self, memory):
        for name in ("c", "a", "e", "b", "d"):
            await memory.append(session(name), EXCHANGE)
        names, token = [], ""
        while page := await memory.sessions("acme", "helper", 2, token):
            names.append([each.key.session for each in page.sessions])
            if not (token := page.next_page_token):
                break
        assert names == [["a", "b"], ["c", "d"], ["e"]]

    async def test_are_those_of_one_agent_and_tenant(self, memory):
        await memory.append(KEY, EXCHANGE)
        await memory.append(OTHER, EXCHANGE)
        await memory.append(SessionKey("else", "helper", "s9"), EXCHANGE)
        assert [s.key for s in (await memory.sessions("acme", "helper")).sessions] == [KEY]

    async def test_that_were_cleared_are_not_listed(self, memory):
        await memory.append(KEY, EXCHANGE)
        await memory.clear(KEY)
        assert (await memory.sessions("acme", "helper")).sessions == ()

    async def test_refuse_the_token_of_another_list(self, memory):
        for name in "ab":
            await memory.append(session(name), EXCHANGE)
        token = (await memory.sessions("acme", "helper", 1)).next_page_token
        with pytest.raises(InvalidInput, match="page_token"):
            await memory.sessions("acme", "other", 1, token)


class TestWhatOneHasSaid:
    @pytest.fixture(autouse=True)
    async def said(self, memory):
        """Ada twice with one agent and once with another; Bob in one of her sessions."""
        await memory.append(KEY, EXCHANGE, "r1", ADA)
        await memory.append(KEY, EXCHANGE, "r2", BOB)
        await memory.append(KEY, EXCHANGE, "r3", ADA)
        await memory.append(OTHER, EXCHANGE, "r4", ADA)
        await memory.append(SessionKey("else", "helper", "s1"), EXCHANGE, "r5", ADA)
        await memory.append(session("nobody's"), EXCHANGE)

    async def test_is_handed_out_with_the_answers(self, memory):
        records = (await memory.export("acme", "ada")).records
        assert [(r.key, r.turn.index) for r in records] == [
            (KEY, 0),
            (KEY, 1),
            (KEY, 4),
            (KEY, 5),
            (OTHER, 0),
            (OTHER, 1),
        ]
        assert [r.turn.message for r in records] == [*EXCHANGE] * 3

    async def test_comes_in_pages(self, memory):
        sizes, token = [], ""
        while page := await memory.export("acme", "ada", 4, token):
            sizes.append(len(page.records))
            if not (token := page.next_page_token):
                break
        assert sizes == [4, 2]

    async def test_can_be_erased(self, memory):
        assert (await memory.erase("acme", "ada")).turns == 6
        assert (await memory.export("acme", "ada")).records == ()
        assert await memory.turns(OTHER) == TurnPage(())

    async def test_is_erased_and_nothing_else(self, memory):
        await memory.erase("acme", "ada")
        assert indexes(await memory.turns(KEY)) == [2, 3]
        assert len((await memory.turns(session("nobody's"))).turns) == 2
        assert len((await memory.export("else", "ada")).records) == 2

    async def test_is_not_erased_twice(self, memory):
        assert [(await memory.erase("acme", "ada")).turns for _ in range(2)] == [6, 0]

    async def test_leaves_indexes_unused_and_counts_right(self, memory):
        await memory.erase("acme", "ada")
        assert await memory.append(KEY, EXCHANGE, "r6", BOB) == 4
        assert indexes(await memory.turns(KEY)) == [2, 3, 6, 7]
        assert (await memory.context(KEY, Strategy())).total_turns == 4

    async def test_is_not_written_again_by_its_run(self, memory):
        await memory.erase("acme", "ada")
        await memory.append(KEY, EXCHANGE, "r2", BOB)  # whose session still is there
        assert indexes(await memory.turns(KEY)) == [2, 3]

    async def test_does_not_stay_in_summaries(self, memory):
        await memory.append(KEY, numbered(10), "r7", BOB)
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.summarise(KEY, Summary("ada said hello", 8, backlog.etag))
        await memory.erase("acme", "ada")
        assert (await memory.context(KEY, ROLLING)).summary == ""

    async def test_does_not_come_back_by_a_summary_that_was_being_made(self, memory):
        await memory.append(KEY, numbered(10), "r7", BOB)
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.erase("acme", "ada")
        assert not await memory.summarise(KEY, Summary("ada said", 8, backlog.etag))

    async def test_sessions_without_a_turn_are_no_longer_listed(self, memory):
        await memory.erase("acme", "ada")
        assert (await memory.sessions("acme", "other")).sessions == ()

    async def test_nobody_has_no_turns_to_erase(self, memory):
        for call in (memory.export, memory.erase):
            with pytest.raises(InvalidInput, match="principal"):
                await call("acme", "")

    async def test_is_his_whatever_his_name(self, memory):
        name = "a {x} *:[]\\ ' -- %00"
        await memory.append(session("s2"), [says(Role.USER, "x")], "r9", Details(name))
        assert len((await memory.export("acme", name)).records) == 1
        assert (await memory.erase("acme", name)).turns == 1
