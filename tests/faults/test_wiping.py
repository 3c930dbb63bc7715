"""A SQLite file that is wiped while its process is killed, or another program writes to it."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from servers.kernel.errors import Unavailable
from servers.kernel.sqlite import open_database
from tests.faults.restless import TABLES, body_of, change


@pytest.fixture
def path(tmp_path) -> Path:
    """Of small pages: many are looked at."""
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA page_size = 512")
        first.execute("VACUUM")
    return path


@contextmanager
def restless(who: str, path: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "tests.faults.restless", who, str(path), str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def check_sound(path: Path) -> int:
    """All is as it was written. Returns how many rows there are."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT id, seed, body FROM run").fetchall()
        for name, seed, body in rows:
            assert body == body_of(name, seed)
            parts = connection.execute("SELECT body FROM log WHERE id = ?", (name,)).fetchall()
            assert parts == [(body[:400],)] * 3
    return len(rows)


async def test_a_process_that_is_killed_while_it_wipes_leaves_a_sound_file(path):
    random = Random(1)
    for seed in range(6):
        with restless("ours", path, seed) as process:
            for line in process.stdout:
                if line == "changed\n" and random.random() < 0.5:
                    await asyncio.sleep(random.random() / 20)  # somewhere in the wipe, or after it
                    break
        assert check_sound(path) > 0


async def test_a_program_that_does_not_know_our_lock_loses_nothing_while_the_file_is_wiped(path):
    random = Random(2)
    async with open_database(path, [TABLES], erasing=True) as database:
        await database.write(lambda c: change(c, random, range(200)))
        with restless("theirs", path, 2) as process:
            for _ in range(12):
                assert await asyncio.to_thread(process.stdout.readline) == "changed\n"
                with suppress(Unavailable):  # it was faster, again and again
                    await database.wipe()
                await database.write(lambda c: change(c, random, range(200)))
        await database.wipe()
    assert check_sound(path) > 50
