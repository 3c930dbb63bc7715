"""What the SQLite file of the runs forgets, and the declarations that it keeps for them."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from servers.agents.adapters.compaction import compacted
from servers.agents.adapters.run_codec import Row
from servers.domain.chat import Json
from servers.kernel.sqlite import Database
from servers.kernel.stored_json import dumps, loads

AN_HOUR: Final = 3600.0
A_DAY: Final = 86400.0  # that a declaration is kept at least, though no run is on record yet

_FORGOTTEN: Final = (
    "SELECT run_id FROM run WHERE ended_at < ? AND webhook_at IS NULL AND NOT EXISTS "
    "(SELECT 1 FROM run AS first WHERE first.run_id = run.root AND first.ended_at IS NULL) "
    "ORDER BY ended_at LIMIT ?"
)
_UNUSED: Final = (
    "DELETE FROM agent_version WHERE kept_at < ? AND NOT EXISTS "
    "(SELECT 1 FROM run WHERE agent_digest = digest AND ended_at IS NULL)"
)


class SqliteVersions:
    """Needs a database that was opened with the MIGRATIONS of runs."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def keep(self, digest: str, manifest: Json) -> None:
        now = self._now()
        sql = "SELECT 1 FROM agent_version WHERE digest = ? AND kept_at > ?"
        if await self._database.read(lambda c: c.execute(sql, (digest, now - AN_HOUR)).fetchone()):
            return
        put = (
            "INSERT INTO agent_version(digest, kept_at, manifest) VALUES (?, ?, ?) "
            "ON CONFLICT(digest) DO UPDATE SET kept_at = excluded.kept_at"
        )
        body = dumps(manifest)
        await self._database.write(lambda c: c.execute(put, (digest, now, body)).rowcount)

    async def kept(self, digest: str) -> Json | None:
        sql = "SELECT manifest FROM agent_version WHERE digest = ?"
        found = await self._database.read(lambda c: c.execute(sql, (digest,)).fetchone())
        return loads(found[0]) if found else None


class SqliteRetention:
    """Needs a database that was opened with the MIGRATIONS of runs."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def forget(self, ended_before: float, limit: int) -> int:
        """Leaves those whose webhook is not told yet, and parts of a tree that goes on."""
        unused_since = min(ended_before, self._now() - A_DAY)

        def work(connection: sqlite3.Connection) -> int:
            ids = [run_id for (run_id,) in connection.execute(_FORGOTTEN, (ended_before, limit))]
            connection.execute(
                "DELETE FROM run WHERE run_id IN (SELECT value FROM json_each(?))",
                (json.dumps(ids),),
            )
            connection.execute(_UNUSED, (unused_since,))
            return len(ids)

        return await self._database.write(work)

    async def compact(self, ended_before: float, limit: int) -> int:
        smaller = 0
        while smaller == 0:  # some have nothing to drop: nobody shall think that all is done
            found = await self._uncompacted(ended_before, limit)
            if not found:
                break
            for run_id in found:
                smaller += await self._compact(run_id)
        return smaller

    async def _uncompacted(self, ended_before: float, limit: int) -> list[str]:
        sql = (
            "SELECT run_id FROM run WHERE ended_at IS NOT NULL AND compacted = 0 "
            "AND ended_at < ? ORDER BY ended_at LIMIT ?"
        )
        found = await self._database.read(
            lambda c: c.execute(sql, (ended_before, limit)).fetchall()
        )
        return [run_id for (run_id,) in found]

    async def _compact(self, run_id: str) -> bool:
        # Nobody writes to a log that has ended, so that it can be read before it is written.
        rows = await self._database.read(lambda connection: _compacted(connection, run_id))
        await self._database.write(lambda connection: _replace(connection, run_id, rows))
        return rows is not None


def _compacted(connection: sqlite3.Connection, run_id: str) -> list[Row] | None:
    sql = "SELECT seq, last, time, body FROM run_event WHERE run_id = ? ORDER BY seq"
    return compacted(run_id, [Row(*row) for row in connection.execute(sql, (run_id,))])


def _replace(connection: sqlite3.Connection, run_id: str, rows: Sequence[Row] | None) -> None:
    marked = connection.execute("UPDATE run SET compacted = 1 WHERE run_id = ?", (run_id,))
    if rows is None or marked.rowcount == 0:  # it was deleted meanwhile
        return
    connection.execute("DELETE FROM run_event WHERE run_id = ?", (run_id,))
    connection.executemany(
        "INSERT INTO run_event(run_id, seq, last, time, body) VALUES (?, ?, ?, ?, ?)",
        [(run_id, row.first, row.last, row.time, row.body) for row in rows],
    )
