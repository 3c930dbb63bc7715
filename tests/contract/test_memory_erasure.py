"""What is erased from conversations in SQLite is in none of its files any more."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from servers.domain.chat import Role, says
from servers.domain.episodes import Episode, EpisodeType, Note
from servers.domain.memory import Details, SessionKey, Strategy, Summary
from servers.kernel.errors import NotFound, Unavailable
from servers.memory.ports import Exchange
from tests.contract.memory_fixture import KEY, START, Database

HIS = "quelque chose d'ada"
OTHERS = "something of bob's"
SESSIONS = [SessionKey("acme", "helper", f"s{number}") for number in range(4)]
ROLLING = Strategy("summary", summary_threshold=4)


@pytest.fixture
def kept(tmp_path) -> Database:
    return Database("sqlite", str(tmp_path))


def written(database: Database) -> bytes:
    return b"".join(path.read_bytes() for path in Path(database.where).glob("memory.db*"))


@contextmanager
def read_by_somebody(file: Path) -> Iterator[None]:
    """Who holds on to the log as it is."""
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turn").fetchone()
        yield


async def talk(memory) -> None:
    """Turns of all sizes, so that pages are split and cells are moved about."""
    chance = random.Random(7)
    for number in range(120):
        text, who = (HIS, "ada") if number % 3 else (OTHERS, "bob")
        said = [says(Role.USER, text * chance.choice((1, 7, 40, 400))) for _ in range(2)]
        await memory.append(chance.choice(SESSIONS), said, f"r{number}", Details(who))


async def test_turns_of_somebody_who_is_erased(kept):
    async with kept.memory() as memory:
        await talk(memory)
        assert HIS.encode() in written(kept)
        assert (await memory.erase("acme", "ada")).turns == 160
        found = written(kept)
        left = [turn for key in SESSIONS for turn in (await memory.turns(key, 100)).turns]
    assert (HIS.encode() in found, b"ada" in found) == (False, False)
    assert OTHERS.encode() in found
    assert len(left) == 80


async def test_a_summary_of_a_session_that_had_his_turns(kept):
    async with kept.memory() as memory:
        await talk(memory)
        backlog = await memory.backlog(SESSIONS[0], ROLLING)
        until = backlog.turns[-1].index + 1
        await memory.summarise(SESSIONS[0], Summary("Ada, in short", until, backlog.etag))
        await memory.erase("acme", "ada")
        assert b"in short" not in written(kept)


async def test_a_session_that_is_cleared(kept):
    async with kept.memory() as memory:
        await memory.append(KEY, [says(Role.USER, HIS)], "", Details("ada"))
        await memory.clear(KEY)
        assert HIS.encode() not in written(kept)


async def test_a_session_that_is_over(kept):
    async with kept.store() as store:
        said = Exchange([says(Role.USER, HIS)], "", START, "e1", ttl=1.0)
        await store.append(KEY, said)
        kept.clock.now += 2
        assert await store.sweep() == 1
        assert HIS.encode() not in written(kept)


async def test_what_a_call_removed_that_could_not_empty_the_log(kept):
    async with kept.memory() as memory:
        await memory.append(KEY, [says(Role.USER, HIS)], "", Details("ada"))
        with read_by_somebody(Path(kept.where) / "memory.db"), pytest.raises(Unavailable) as caught:
            await memory.erase("acme", "ada")
        assert caught.value.reason == "STORAGE_BUSY"
        assert (await memory.erase("acme", "ada")).turns == 0
        assert HIS.encode() not in written(kept)


async def test_an_episode_that_is_not_there_the_second_time(kept, tmp_path):
    async with kept.memory() as memory:
        said = await memory.episodes.add(
            Note("acme", Episode(EpisodeType.CUSTOM, HIS, agent="helper"))
        )
        with read_by_somebody(tmp_path / "episodes.db"), pytest.raises(Unavailable) as caught:
            await memory.episodes.remove("acme", "helper", said.id)
        assert caught.value.reason == "STORAGE_BUSY"
        with pytest.raises(NotFound):
            await memory.episodes.remove("acme", "helper", said.id)
        assert HIS.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
