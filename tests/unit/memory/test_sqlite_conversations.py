"""What the SQLite file of conversations owes beyond the contract of `Memory`."""

import pytest

from servers.domain.chat import Role, says
from servers.domain.memory import SessionKey
from servers.kernel.errors import Exhausted
from servers.kernel.sqlite import open_database
from servers.memory.adapters.sqlite import MIGRATIONS, SqliteConversations

KEY = SessionKey("acme", "helper", "s1")


@pytest.fixture
async def database(tmp_path):
    async with open_database(tmp_path / "memory.db", MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(database):
    return SqliteConversations(database)


async def test_an_exchange_that_does_not_fit_the_disk_is_not_stored_in_part(database, store):
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 12").fetchall())
    with pytest.raises(Exhausted):
        await store.append(KEY, [says(Role.USER, "a"), says(Role.USER, "b" * 99_999)], "", 1.0)
    assert await store.newest(KEY, 9) == ([], 0)


async def test_clearing_a_session_leaves_none_of_its_text_in_the_tables(database, store):
    await store.append(KEY, [says(Role.USER, "secret")], "run-1", 1.0)
    await store.clear(KEY)
    count = "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM turn)"
    assert await database.read(lambda c: c.execute(count).fetchone()) == (0,)


async def test_looking_for_a_run_does_not_read_the_whole_session(database):
    plan = await database.read(
        lambda c: c.execute(
            "EXPLAIN QUERY PLAN SELECT 1 FROM turn "
            "WHERE session_id = ? AND run_id = ? AND run_id != '' LIMIT 1",
            (1, "r"),
        ).fetchall()
    )
    assert "turn_by_run" in plan[0][3]
