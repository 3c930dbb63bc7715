"""Where a conversation is looked for, and kept, when there are several places."""

import sqlite3
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace

import pytest

from servers.domain.chat import Role, says
from servers.domain.memory import Details, SessionKey
from servers.kernel.errors import InvalidInput, Unavailable
from servers.kernel.sqlite import open_database
from servers.memory.adapters.sqlite import MIGRATIONS, SqliteConversations
from servers.memory.adapters.sqlite_episodes import SqliteEpisodes
from servers.memory.episodes import EpisodicMemory
from servers.memory.places import Backend, Places
from servers.memory.service import ConversationMemory

KEY = SessionKey("acme", "helper", "s1")
EXCHANGE = (says(Role.USER, "hello?"), says(Role.ASSISTANT, "hi!"))


class World:
    """A memory over several files, which stand for the databases that they would be."""

    def __init__(self, folder, places, episodes, away):
        self.folder, self.places, self.away = folder, places, away
        self.memory = ConversationMemory(places, EpisodicMemory(episodes, lambda: 1.0), lambda: 1.0)

    async def has(self, *names: str) -> list[bool]:
        return [bool((await self.memory.turns(KEY, backend=name)).turns) for name in names]


@pytest.fixture
async def world(tmp_path):
    away, opened, closed, clock = set(), [], [], SimpleNamespace(now=1.0)

    @asynccontextmanager
    async def opening(backend):
        name = backend.url or "default"
        if name in away:
            raise Unavailable(f"{name} can't be reached", reason="STORE_UNAVAILABLE")
        opened.append(name)
        async with open_database(tmp_path / f"{name}.db", MIGRATIONS) as database:
            yield SqliteConversations(database, lambda: clock.now)
        closed.append(name)

    @asynccontextmanager
    async def opening_episodes(backend):
        name = f"{backend.url or 'default'}.episodes"
        async with open_database(tmp_path / f"{name}.db", MIGRATIONS) as database:
            yield SqliteEpisodes(database, lambda: 1.0)

    shared = {"archive": Backend("postgres", "archive")}
    async with (
        Places(shared, opening, lambda: clock.now) as places,
        Places(shared, opening_episodes) as episodes,
    ):
        world = World(tmp_path, places, episodes, away)
        world.opened, world.closed, world.clock = opened, closed, clock
        yield world


async def test_a_new_session_is_kept_in_the_default_place(world):
    await world.memory.append(KEY, EXCHANGE)
    assert await world.has("sqlite", "archive") == [True, False]


async def test_a_session_is_kept_where_the_agent_says(world):
    await world.memory.append(KEY, EXCHANGE, "", Details(backend="archive"))
    assert await world.has("sqlite", "archive") == [False, True]


async def test_a_request_that_names_no_place_finds_the_session(world):
    await world.memory.append(KEY, EXCHANGE, "", Details(backend="archive"))
    assert len((await world.memory.turns(KEY)).turns) == 2
    assert await world.memory.append(KEY, EXCHANGE) == 4


async def test_an_agent_of_a_file_has_the_place_of_its_file(world):
    world.places.take_files({}, {"helper": "archive"})
    await world.memory.append(KEY, EXCHANGE)
    assert await world.has("sqlite", "archive") == [False, True]


async def test_an_agent_of_a_file_may_have_a_place_of_its_own(world):
    world.places.take_files({"agent:helper": Backend("redis", "own")}, {"helper": "agent:helper"})
    await world.memory.append(KEY, EXCHANGE)
    assert await world.has("sqlite", "archive", "agent:helper") == [False, False, True]


async def test_a_place_that_nobody_knows_is_refused_with_those_there_are(world):
    with pytest.raises(InvalidInput, match="'sqlite', 'archive'"):
        await world.memory.turns(KEY, backend="archiv")


async def test_no_address_can_stand_for_a_place(world):
    with pytest.raises(InvalidInput):
        await world.memory.check("redis://10.0.0.1:6379/0")
    assert world.opened == []


async def test_clearing_without_a_place_is_done_in_all_of_them(world):
    await world.memory.append(KEY, EXCHANGE, "", Details(backend="archive"))
    await world.memory.append(KEY, EXCHANGE, "", Details(backend="sqlite"))
    assert await world.memory.clear(KEY) == 4
    assert await world.has("sqlite", "archive") == [False, False]


async def test_pages_of_all_places_follow_one_another(world):
    for number, name in enumerate(["sqlite", "archive", "sqlite", "archive", "archive"]):
        key = SessionKey("acme", "helper", f"s{number}")
        await world.memory.append(key, EXCHANGE, "", Details("ada", backend=name))
    seen, token = [], ""
    while page := await world.memory.sessions("acme", "helper", 2, token):
        seen += [(each.backend, each.key.session) for each in page.sessions]
        if not (token := page.next_page_token):
            break
    assert seen == [
        ("sqlite", "s0"),
        ("sqlite", "s2"),
        ("archive", "s1"),
        ("archive", "s3"),
        ("archive", "s4"),
    ]


async def test_what_one_has_said_is_erased_in_all_places(world):
    await world.memory.append(KEY, EXCHANGE, "", Details("ada", backend="archive"))
    await world.memory.append(KEY, EXCHANGE, "", Details("ada", backend="sqlite"))
    records = (await world.memory.export("acme", "ada", 3)).records
    assert [each.backend for each in records] == ["sqlite", "sqlite", "archive"]
    assert (await world.memory.erase("acme", "ada")).turns == 4


async def test_an_erasure_that_can_not_reach_a_place_is_no_success(world):
    world.away.add("archive")
    await world.memory.append(KEY, EXCHANGE, "", Details("ada", backend="sqlite"))
    with pytest.raises(Unavailable):
        await world.memory.erase("acme", "ada")
    assert await world.has("sqlite") == [True]  # nothing was begun


async def test_a_place_is_opened_once_it_is_needed_and_once(world):
    assert world.opened == []
    await world.memory.check("archive")
    await world.memory.check("archive")
    assert world.opened == ["archive"]


async def test_a_place_that_was_away_is_tried_again(world):
    world.away.add("archive")
    with pytest.raises(Unavailable):
        await world.memory.check("archive")
    world.away.clear()
    await world.memory.check("archive")


OWN = {"helper": "agent:helper"}


def at(host, user="astromesh"):
    return Backend("postgres", f"postgresql://{user}@{host}/memory")


class TestADatabaseOfTheAgentsOwn:
    async def said(self, world, *backends):
        for backend in backends:
            world.places.take_files({"agent:helper": backend}, OWN)
            await world.memory.append(KEY, EXCHANGE, "", Details("ada"))

    async def test_that_was_moved_is_still_read_and_erased(self, world):
        await self.said(world, Backend("redis", "one"), Backend("redis", "two"))
        assert await world.has("agent:helper") == [True]
        found = (await world.memory.sessions("acme", "helper")).sessions
        assert [each.backend for each in found] == ["agent:helper", "agent:helper:before-1"]
        assert (await world.memory.erase("acme", "ada")).turns == 4

    async def test_that_was_moved_is_closed_when_it_is_not_needed_and_opened_for_who_does(
        self, world
    ):
        await self.said(world, Backend("redis", "one"), Backend("redis", "two"))
        await world.memory.turns(KEY, backend="archive")
        for seconds, closed in ((900, []), (1, ["one"]), (901, ["one"])):
            world.clock.now += seconds
            await world.memory.sweep()
            assert world.closed == closed
        assert (await world.memory.erase("acme", "ada")).turns == 4
        assert sorted(world.opened) == ["archive", "default", "one", "one", "two"]

    async def test_that_came_back_has_no_other_name_any_more(self, world):
        one, two = Backend("redis", "one"), Backend("redis", "two")
        await self.said(world, one, two, one)
        assert [n for n in world.places.names("helper") if n.startswith("agent")] == [
            "agent:helper",
            "agent:helper:before-1",
        ]
        assert (await world.memory.erase("acme", "ada")).turns == 6

    async def test_that_moved_often_is_known_in_the_order_of_time(self, world):
        for name in ("one", "two", "three"):
            world.places.take_files({"agent:helper": Backend("redis", name)}, OWN)
            await world.places.store("agent:helper")
        await world.places.store("agent:helper:before-1")
        await world.places.store("agent:helper:before-2")
        assert world.opened == ["one", "two", "three"]

    def test_is_the_same_for_another_user(self, world):
        for backend in (at("db:5432"), at("db:5432", "someone:secret")):
            world.places.take_files({"agent:helper": backend}, OWN)
        assert "agent:helper:before-1" not in world.places.names("helper")

    def test_is_another_one_in_another_schema(self, world):
        one = at("db:5432")
        other = Backend("postgres", f"{one.url}?options=-csearch_path%3Dother")
        for backend in (one, other):
            world.places.take_files({"agent:helper": backend}, OWN)
        assert "agent:helper:before-1" in world.places.names("helper")

    async def test_that_is_away_hides_nothing_of_another_agent(self, world):
        world.away.add("one")
        world.places.take_files({"agent:helper": Backend("redis", "one")}, OWN)
        assert (await world.memory.sessions("acme", "other")).sessions == ()


class TestSweeping:
    async def test_goes_on_where_one_fails(self, world, tmp_path):
        for name, ttl in (("archive", 0.5), ("sqlite", 0.5)):
            await world.memory.append(KEY, EXCHANGE, "", Details(backend=name, ttl=ttl))
        with closing(sqlite3.connect(tmp_path / "archive.db", isolation_level=None)) as archive:
            archive.execute(
                "CREATE TRIGGER full BEFORE DELETE ON turn "
                "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
            world.clock.now = 2.0
            await world.memory.sweep()
            kept = archive.execute("SELECT count(*) FROM turn").fetchone()
        with closing(sqlite3.connect(tmp_path / "default.db")) as default:
            swept = default.execute("SELECT count(*) FROM turn").fetchone()
        assert (kept, swept) == ((2,), (0,))
