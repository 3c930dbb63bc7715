"""Marks of what was erased, in the SQLite file of conversations."""

import sqlite3
from collections.abc import Sequence

from servers.kernel.sqlite import Database


class SqliteMarks:
    """Needs a database that was opened with the MIGRATIONS of conversations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, marks: Sequence[bytes], at: float) -> None:
        sql = (
            "INSERT INTO erased(mark, at) VALUES (?, ?) "
            "ON CONFLICT (mark) DO UPDATE SET at = max(at, excluded.at)"
        )

        def work(db: sqlite3.Connection) -> None:
            db.executemany(sql, [(each, at) for each in marks])

        await self._database.write(work)

    async def newest(self, marks: Sequence[bytes]) -> float | None:
        sql = f"SELECT max(at) FROM erased WHERE mark IN ({', '.join('?' * len(marks))})"

        def work(db: sqlite3.Connection) -> float | None:
            found: tuple[float | None] = db.execute(sql, tuple(marks)).fetchone()
            return found[0]

        return await self._database.read(work)

    async def sweep(self, before: float) -> int:
        sql = "DELETE FROM erased WHERE at < ?"
        return await self._database.write(lambda db: db.execute(sql, (before,)).rowcount)
