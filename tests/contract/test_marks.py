"""What `Marks` promises: which of some was put last, for as long as they are kept."""

import pytest

from servers.domain.semantic import Reader
from servers.kernel.sqlite import open_database
from servers.memory import marks
from servers.memory.adapters import sqlite
from servers.memory.adapters.sqlite_marks import SqliteMarks

ADA, BOB = (marks.of_principal("acme", name) for name in ("ada", "bob"))


@pytest.fixture
async def kept(tmp_path):
    async with open_database(tmp_path / "memory.db", sqlite.MIGRATIONS) as database:
        yield SqliteMarks(database)


async def test_the_newest_one_counts(kept):
    await kept.put([ADA], 5.5)
    await kept.put([ADA, BOB], 4.5)
    assert await kept.newest([ADA]) == 5.5
    assert await kept.newest([BOB, ADA]) == 5.5
    assert await kept.newest([BOB]) == 4.5


async def test_of_what_was_never_put_there_is_none(kept):
    await kept.put([ADA], 5.5)
    assert await kept.newest([BOB]) is None


async def test_they_survive_the_process(tmp_path):
    for _ in range(2):
        async with open_database(tmp_path / "memory.db", sqlite.MIGRATIONS) as database:
            found = await SqliteMarks(database).newest([ADA])
            await SqliteMarks(database).put([ADA], 5.5)
    assert found == 5.5


async def test_those_that_were_put_before_are_swept(kept):
    await kept.put([ADA], 5.5)
    await kept.put([BOB], 4.5)
    assert await kept.sweep(5.5) == 1
    assert [await kept.newest([ADA]), await kept.newest([BOB])] == [5.5, None]


async def test_none_names_anybody(kept, tmp_path):
    await kept.put([marks.of_principal("acme", "somebody-in-particular")], 5.5)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"somebody" not in files


def test_names_that_are_put_together_alike_are_not_the_same():
    assert marks.of_principal("a", "bc") != marks.of_principal("ab", "c")
    one, other = Reader("acme", "helper", session="s"), Reader("acme", "helper")
    assert marks.of_memories(one, ["agent"], "c") != marks.of_memories(other, ["agent"], "c")
