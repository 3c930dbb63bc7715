"""What one SQLite file and its owner promise."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from servers.kernel.errors import DataLost, Exhausted, NotReady, Unavailable
from servers.kernel.sqlite import Database, open_database
from servers.kernel.sqlite_pages import scrub

TABLE = "CREATE TABLE item(name TEXT PRIMARY KEY) WITHOUT ROWID;"


def add(name: str):
    return lambda c: c.execute("INSERT INTO item VALUES (?)", (name,)).rowcount


def names(c: sqlite3.Connection) -> list[str]:
    return [name for (name,) in c.execute("SELECT name FROM item ORDER BY name")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "items.db"


@pytest.fixture
async def db(path):
    async with open_database(path, [TABLE]) as opened:
        yield opened


class Gate:
    """Holds the writer thread, so that what is asked for meanwhile is committed together."""

    def __init__(self, db: Database) -> None:
        self.db, self.entered, self.opened = db, threading.Event(), threading.Event()

    def _wait(self, _):
        self.entered.set()
        self.opened.wait()

    async def __aenter__(self):
        self.held = asyncio.create_task(self.db.write(self._wait))
        await asyncio.to_thread(self.entered.wait)
        return self

    async def __aexit__(self, *_):
        self.opened.set()
        await self.held


async def asked(db: Database, *works) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(db.write(work)) for work in works]
    await asyncio.sleep(0)  # each has handed its work over
    return tasks


class TestAWrite:
    async def test_returns_what_its_work_returned(self, db):
        assert await db.write(add("a")) == 1

    async def test_is_seen_by_the_next_read(self, db):
        await db.write(add("a"))
        assert await db.read(names) == ["a"]

    async def test_is_there_after_reopening(self, path):
        async with open_database(path, [TABLE]) as db:
            await db.write(add("a"))
        async with open_database(path, [TABLE]) as db:
            assert await db.read(names) == ["a"]

    async def test_survives_the_sudden_death_of_the_process(self, path):
        script = (
            "import asyncio, os, sys, pathlib\n"
            "from servers.kernel.sqlite import open_database\n"
            "async def main():\n"
            f"    async with open_database(pathlib.Path(sys.argv[1]), [{TABLE!r}]) as db:\n"
            "        await db.write(lambda c: c.execute(\"INSERT INTO item VALUES ('a')\") and 1)\n"
            "        os.kill(os.getpid(), 9)\n"
            "asyncio.run(main())\n"
        )
        died = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(path)])
        assert died.returncode == -9
        async with open_database(path, [TABLE]) as db:
            assert await db.read(names) == ["a"]

    async def test_that_fails_raises_what_its_work_raised(self, db):
        def fail(_):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await db.write(fail)

    async def test_that_fails_leaves_nothing_behind(self, db):
        def half(c):
            add("half")(c)
            raise KeyError

        with pytest.raises(KeyError):
            await db.write(half)
        assert await db.read(names) == []

    async def test_cannot_be_made_through_a_read(self, db):
        with pytest.raises(NotReady, match="readonly"):
            await db.read(add("a"))

    async def test_may_raise_stop_iteration_without_hanging_its_caller(self, db):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await db.write(lambda c: next(iter(())))


class TestWritesAtOnce:
    async def test_are_applied_in_the_order_of_the_calls(self, db):
        seen = []
        await asyncio.gather(*(db.write(lambda _, n=n: seen.append(n)) for n in range(50)))
        assert list(dict.fromkeys(seen)) == list(range(50))

    async def test_share_one_commit(self, db):
        def view(c):
            return c.execute("SELECT count(*) FROM item").fetchone()[0]

        async with Gate(db):
            tasks = await asked(db, add("a"), add("b"), add("c"))
            assert await db.read(view) == 0
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert await db.read(view) == 3

    async def test_do_not_fail_with_one_that_fails(self, db):
        async with Gate(db):
            tasks = await asked(db, add("a"), add("a"), add("b"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(o) for o in outcomes] == [int, sqlite3.IntegrityError, int]
        assert await db.read(names) == ["a", "b"]

    async def test_see_none_of_what_a_failed_one_wrote(self, db):
        def half(c):
            add("half")(c)
            raise KeyError

        async with Gate(db):
            tasks = await asked(db, add("a"), half, names)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[2] == ["a"]

    async def test_go_on_when_a_waiting_caller_is_cancelled(self, db):
        async with Gate(db):
            tasks = await asked(db, add("a"), add("b"))
            tasks[0].cancel()
        assert await tasks[1] == 1
        assert await db.read(names) == ["a", "b"]

    async def test_beyond_the_bound_wait_for_room(self, path):
        async with open_database(path, [TABLE], pending=2) as db:
            async with Gate(db):
                tasks = await asked(db, add("a"), add("b"), add("c"))
                tasks[2].cancel()  # never handed over, so it never happens
                await asyncio.sleep(0)
                tasks[1].cancel()
                await asyncio.sleep(0)
            await tasks[0]
            assert await db.read(names) == ["a"]

    async def test_are_finished_before_the_file_is_closed(self, path):
        async with open_database(path, [TABLE]) as db:
            tasks = await asked(db, *(add(str(n)) for n in range(20)))
        assert [await task for task in tasks] == [1] * 20


class TestWritingOut:
    """Of a database whose removed rows are to be in no file."""

    @pytest.fixture
    async def erasing(self, path):
        async with open_database(path, [TABLE], erasing=True) as opened:
            await opened.write(add("a secret"))
            yield opened

    def files(self, path) -> bytes:
        return b"".join(each.read_bytes() for each in path.parent.iterdir())

    async def test_leaves_what_was_removed_in_no_file(self, erasing, path):
        await erasing.write(lambda c: c.execute("DELETE FROM item").rowcount)
        assert b"a secret" in self.files(path)
        await erasing.write_out()
        assert b"a secret" not in self.files(path)

    async def test_waits_for_a_reader_while_others_write(self, erasing, path):
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        names(reader)
        await erasing.write(lambda c: c.execute("DELETE FROM item").rowcount)
        written_out = asyncio.create_task(erasing.write_out())
        for n in range(5):
            await erasing.write(add(f"item {n}"))
        assert not written_out.done()
        reader.close()
        await written_out
        assert b"a secret" not in self.files(path)

    async def test_gives_up_where_a_reader_stays(self, erasing, path):
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        names(reader)
        await erasing.write(lambda c: c.execute("DELETE FROM item").rowcount)
        with pytest.raises(Unavailable) as caught:
            await erasing.write_out()
        assert caught.value.reason == "STORAGE_BUSY"
        reader.close()


class TestWiping:
    """Of a database in which rows were moved from page to page before they were removed."""

    ROWS = (
        "CREATE TABLE run(id TEXT PRIMARY KEY, body BLOB NOT NULL);"
        "CREATE TABLE log(id TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, "
        "PRIMARY KEY(id, seq)) WITHOUT ROWID;"
    )

    def writing(self, random: Random, names: list[str]):
        """Their rows grow and shrink, in an order of their own each time."""

        def work(c: sqlite3.Connection) -> None:
            for name in random.sample(names, len(names)):
                body = f"secret of {name} ".encode() + bytes([120]) * random.choice((9, 700, 9_000))
                c.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, body))
                seq = random.randrange(4)
                c.execute("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", (name, seq, body[:900]))

        return work

    async def rounds(self, db, random: Random, names: list[str]) -> None:
        for _ in range(5):
            await db.write(self.writing(random, names))

    def removing(self, names: list[str]):
        def work(c: sqlite3.Connection) -> None:
            for table in ("run", "log"):
                c.executemany(f"DELETE FROM {table} WHERE id = ?", [(name,) for name in names])

        return work

    def still_there(self, path, names: list[str]) -> list[str]:
        data = b"".join(each.read_bytes() for each in path.parent.iterdir())
        return [name for name in names if name.encode() in data]

    @pytest.mark.parametrize("page", [512, 4096, 65536])
    async def test_leaves_what_was_removed_in_no_file(self, path, page):
        random = Random(page)
        names = [f"{random.getrandbits(128):032x}" for _ in range(150)]
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as first:
            first.execute(f"PRAGMA page_size = {page}")
            first.execute("VACUUM")
        async with open_database(path, [self.ROWS], erasing=True) as db:
            while names:
                await self.rounds(db, random, names)
                gone, names = names[:50], names[50:]
                await db.write(self.removing(gone))
                await db.wipe()
                assert self.still_there(path, gone) == []
                assert self.still_there(path, names) == names
                kept = await db.read(lambda c: c.execute("SELECT count(*) FROM run").fetchone()[0])
                sound = await db.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0])
                assert (kept, sound) == (len(names), "ok")

    async def test_takes_what_lay_in_unused_pages_before(self, path):
        names = [f"{n:032x}" for n in range(150)]
        async with open_database(path, [self.ROWS]) as db:
            await db.write(self.writing(Random(1), names))
            await db.write(self.removing(names[:75]))
            assert self.still_there(path, names[:75]) != []
            await db.wipe()
            assert self.still_there(path, names[:75]) == []
            assert (
                await db.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
            )

    async def test_does_it_also_where_pages_may_be_moved(self, path):
        """By writing the whole file anew: there a page tells of others, and looks like a tree's."""
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as first:
            first.execute("PRAGMA auto_vacuum = FULL")
            first.execute("VACUUM")
        names = [f"{n:032x}" for n in range(150)]
        async with open_database(path, [self.ROWS], erasing=True) as db:
            await self.rounds(db, Random(1), names)
            await db.write(self.removing(names[:75]))
            await db.wipe()
            assert self.still_there(path, names[:75]) == []
            assert self.still_there(path, names[75:]) == names[75:]

    async def test_of_an_empty_file_does_nothing(self, path):
        async with open_database(path) as db:
            await db.wipe()

    async def test_lets_others_write_in_between_where_a_file_is_big(self, path):
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as first:
            first.execute("PRAGMA page_size = 512")
            first.execute("VACUUM")
        names = [f"{n:032x}" for n in range(1_100)]
        rows = [(name, name.encode() * 250) for name in names]
        async with open_database(path, [self.ROWS]) as db:
            await db.write(lambda c: c.executemany("INSERT INTO run VALUES (?, ?)", rows).rowcount)
            await db.write(self.removing(names[1:-1]))
            done: list[str] = []
            asked = [
                asyncio.create_task(self.noted(done, "wiped", db.wipe())),
                asyncio.create_task(self.noted(done, "written", db.write(self.removing([])))),
            ]
            await asyncio.gather(*asked)
            assert done == ["written", "wiped"]
            assert self.still_there(path, names[::99]) == [names[0]]
            assert self.still_there(path, names[-3:]) == [names[-1]]
            assert (
                await db.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
            )

    async def noted(self, done: list[str], what: str, work) -> None:
        await work
        done.append(what)

    async def test_of_several_who_ask_takes_what_each_of_them_has_removed(self, path):
        names = [f"{n:032x}" for n in range(90)]
        async with open_database(path, [self.ROWS]) as db:
            await db.write(self.writing(Random(1), names))

            async def erased(some: list[str]) -> None:
                await db.write(self.removing(some))
                await db.wipe()
                assert self.still_there(path, some) == []

            await asyncio.gather(*(erased(names[n : n + 15]) for n in range(0, 90, 15)))

    @pytest.mark.parametrize("at", [0, 20])
    async def test_leaves_alone_what_is_no_plain_sqlite_file(self, tmp_path, at):
        """Begins with something else, or keeps something of an extension's in each page."""
        path = tmp_path / "other.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(self.ROWS)
        data = bytearray(path.read_bytes())
        data[at] += 1
        data[200:300] = b"x" * 100
        path.write_bytes(data)
        with path.open("r+b") as file:
            assert scrub(file.fileno()) is None
        assert path.read_bytes() == data

    async def test_keeps_other_programs_from_writing_meanwhile(self, path):
        """They know nothing of our lock. While one of them writes, nothing is wiped."""
        async with open_database(path, [self.ROWS]) as db:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(Unavailable) as refused:
                    await db.wipe()
                assert refused.value.reason == "STORAGE_BUSY"


async def test_a_closed_database_says_so(path):
    async with open_database(path, [TABLE]) as db:
        pass
    with pytest.raises(Unavailable, match="closed"):
        await db.write(add("a"))


class TestMigrations:
    async def test_bring_an_old_file_to_the_newest_schema(self, path):
        async with open_database(path, [TABLE]) as db:
            await db.write(add("a"))
        more = "ALTER TABLE item ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"
        async with open_database(path, [TABLE, more]) as db:
            assert await db.read(lambda c: c.execute("SELECT * FROM item").fetchall()) == [
                ("a", "none")
            ]

    async def test_that_fail_leave_the_schema_as_it_was(self, path):
        async with open_database(path, [TABLE]):
            pass
        with pytest.raises(sqlite3.OperationalError):
            async with open_database(path, [TABLE, "CREATE TABLE more(a); CREATE TABLE item(a);"]):
                pass
        async with open_database(path, [TABLE, "CREATE TABLE more(a);"]) as db:
            assert await db.read(names) == []

    async def test_of_a_newer_program_are_not_touched(self, path):
        async with open_database(path, [TABLE, "CREATE TABLE more(a);"]):
            pass
        with pytest.raises(NotReady, match="newer version") as caught:
            async with open_database(path, [TABLE]):
                pass
        assert caught.value.reason == "STATE_TOO_NEW"


class TestAStateFolder:
    async def test_belongs_to_one_opener(self, db, path):
        with pytest.raises(NotReady, match=f"{str(path.parent)!r} is in use.*--state") as caught:
            async with open_database(path, [TABLE]):
                pass
        assert caught.value.reason == "STATE_IN_USE"
        assert str(os.getpid()) in caught.value.message

    async def test_refused_to_a_second_opener_still_serves_the_first(self, db, path):
        with pytest.raises(NotReady):
            async with open_database(path, [TABLE]):
                pass
        assert await db.write(add("a")) == 1

    async def test_is_free_again_after_closing(self, path):
        for name in "ab":
            async with open_database(path, [TABLE]) as db:
                await db.write(add(name))

    async def test_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(NotReady, match="--state") as caught:
            async with open_database(tmp_path / "file" / "items.db", [TABLE]):
                pass
        assert caught.value.reason == "STATE_NOT_WRITABLE"

    async def test_keeps_its_file_from_other_users(self, db, path):
        assert path.stat().st_mode & 0o077 == 0


class TestDamage:
    async def test_of_the_whole_file_is_found_at_opening(self, path):
        path.parent.mkdir()
        path.write_bytes(b"this is no database " * 500)
        with pytest.raises(DataLost, match=r"items\.db"):
            async with open_database(path, [TABLE]):
                pass

    async def test_of_one_page_is_found_at_reading(self, path):
        async with open_database(path, [TABLE]) as db:
            for n in range(500):
                await db.write(add(f"{n:040d}"))
        whole = bytearray(path.read_bytes())
        whole[8192 : 8192 + 4096] = b"\xff" * 4096
        path.write_bytes(whole)
        async with open_database(path, [TABLE]) as db:
            with pytest.raises(DataLost, match=r"items\.db"):
                await db.read(names)


class TestAFullDisk:
    @pytest.fixture
    async def full(self, db):
        await db.write(lambda c: c.execute("PRAGMA max_page_count = 4").fetchall())
        return db

    async def test_is_an_exhausted_resource_with_a_reason(self, full):
        with pytest.raises(Exhausted) as caught:
            await full.write(add("x" * 50_000))
        assert caught.value.reason == "DISK_FULL"

    async def test_lets_small_writes_go_on(self, full):
        with pytest.raises(Exhausted):
            await full.write(add("x" * 50_000))
        assert await full.write(add("a")) == 1
