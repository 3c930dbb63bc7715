"""What the SQLite file of conversations owes beyond the contract of `Memory`."""

import pytest

from servers.domain.chat import Role, says
from servers.domain.memory import SessionKey, Turn
from servers.kernel.errors import Exhausted
from servers.kernel.sqlite import open_database
from servers.kernel.stored_json import dumps
from servers.memory.adapters.sqlite import MIGRATIONS, SqliteConversations
from servers.memory.ports import Exchange, Standing

KEY = SessionKey("acme", "helper", "s1")


@pytest.fixture
async def database(tmp_path):
    async with open_database(tmp_path / "memory.db", MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(database):
    return SqliteConversations(database, lambda: 1.0)


async def test_an_exchange_that_does_not_fit_the_disk_is_not_stored_in_part(database, store):
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 20").fetchall())
    messages = [says(Role.USER, "a"), says(Role.USER, "b" * 99_999)]
    with pytest.raises(Exhausted):
        await store.append(KEY, Exchange(messages, "", 1.0, "e"))
    assert await store.standing(KEY) == Standing()


async def test_clearing_a_session_leaves_none_of_its_text_in_the_tables(database, store):
    await store.append(KEY, Exchange([says(Role.USER, "secret")], "run-1", 1.0, "e"))
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


async def test_conversations_of_the_first_version_are_still_there(tmp_path):
    path = tmp_path / "memory.db"
    body = dumps(says(Role.USER, "old"))
    async with open_database(path, MIGRATIONS[:1]) as old:
        await old.write(
            lambda c: c.execute("INSERT INTO session VALUES (1, 'acme', 'helper', 's1', 1)")
        )
        await old.write(lambda c: c.execute("INSERT INTO turn VALUES (1, 0, 'r', 7.0, ?)", (body,)))
    async with open_database(path, MIGRATIONS) as database:
        store = SqliteConversations(database, lambda: 9.0)
        assert await store.page(KEY, -1, 9) == [Turn(0, says(Role.USER, "old"), 7.0, "r")]
        assert await store.append(KEY, Exchange([says(Role.USER, "new")], "", 8.0, "e")) == 2
        (session,) = await store.sessions("acme", "helper", "", 9)
        assert (session.created_at, session.updated_at) == (7.0, 8.0)
