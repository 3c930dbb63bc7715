"""Programs that change a SQLite file without rest: ours, which also wipes it, and one that knows
nothing of our locks. Each says a line for what is on disk.

    python -m tests.faults.restless ours|theirs FILE SEED
"""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from random import Random

from servers.kernel.sqlite import open_database

TABLES = (
    "CREATE TABLE run(id INTEGER PRIMARY KEY, seed INTEGER NOT NULL, body BLOB NOT NULL);"
    "CREATE INDEX run_by_body ON run(seed, body);"
    "CREATE TABLE log(id INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, "
    "PRIMARY KEY(id, seq)) WITHOUT ROWID;"
)
_LENGTHS = (9, 90, 700, 9_000)


def body_of(name: int, seed: int) -> bytes:
    return (f"of {name} {seed} " * 1_000).encode()[: _LENGTHS[(name * 7 + seed) % len(_LENGTHS)]]


def change(connection: sqlite3.Connection, random: Random, names: range) -> None:
    for name in random.sample(names, 20):
        connection.execute("DELETE FROM run WHERE id = ?", (name,))
        connection.execute("DELETE FROM log WHERE id = ?", (name,))
        if random.random() < 0.6:
            seed = random.randrange(1_000)
            connection.execute("INSERT INTO run VALUES(?, ?, ?)", (name, seed, body_of(name, seed)))
            rows = [(name, seq, body_of(name, seed)[:400]) for seq in range(3)]
            connection.executemany("INSERT INTO log VALUES(?, ?, ?)", rows)


async def ours(path: Path, random: Random) -> None:
    async with open_database(path, [TABLES], erasing=True) as database:
        while True:
            for _ in range(3):
                await database.write(lambda c: change(c, random, range(200)))
            print("changed", flush=True)
            await database.wipe()
            print("wiped", flush=True)


def theirs(path: Path, random: Random) -> None:
    with closing(sqlite3.connect(path, timeout=60.0, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 1")
        while True:
            connection.execute("BEGIN IMMEDIATE")
            change(connection, random, range(200, 400))
            connection.execute("COMMIT")
            print("changed", flush=True)


if __name__ == "__main__":
    who, file, number = sys.argv[1:]
    if who == "ours":
        asyncio.run(ours(Path(file), Random(int(number))))
    else:
        theirs(Path(file), Random(int(number)))
