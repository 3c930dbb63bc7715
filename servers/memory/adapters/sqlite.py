"""Conversations in a SQLite file."""

import sqlite3
from collections.abc import Callable, Sequence

from servers.domain.memory import Recorded, SessionInfo, SessionKey, Summary, Turn
from servers.kernel.sqlite import Database
from servers.kernel.stored_json import dumps
from servers.memory.adapters.rows import (
    OF_T,
    TURN_COLUMNS,
    messages_from,
    recorded_from,
    session_from,
    turn_from,
    window_from,
)
from servers.memory.ports import Exchange, Latest, Standing, Window

MIGRATIONS = (
    """
    CREATE TABLE session(
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        next_index INTEGER NOT NULL DEFAULT 0,  -- of its next turn; also how many it has had
        UNIQUE(tenant, agent, session)
    );
    CREATE TABLE turn(
        session_id INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        created_at REAL NOT NULL,  -- seconds since the epoch
        message BLOB NOT NULL,     -- JSON, see kernel/stored_json.py
        PRIMARY KEY(session_id, idx)
    ) WITHOUT ROWID;
    CREATE INDEX turn_by_run ON turn(session_id, run_id) WHERE run_id != '';
    """,
    """
    ALTER TABLE session ADD COLUMN turns INTEGER NOT NULL DEFAULT 0; -- that it has
    ALTER TABLE session ADD COLUMN created_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE session ADD COLUMN updated_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE session ADD COLUMN ttl REAL NOT NULL DEFAULT 0; -- seconds; 0: for ever
    ALTER TABLE session ADD COLUMN expires_at REAL;
    ALTER TABLE session ADD COLUMN summary TEXT NOT NULL DEFAULT '';
    ALTER TABLE session ADD COLUMN until INTEGER NOT NULL DEFAULT 0; -- turns below are in it
    ALTER TABLE session ADD COLUMN etag TEXT NOT NULL DEFAULT '';
    ALTER TABLE turn ADD COLUMN principal TEXT NOT NULL DEFAULT '';
    ALTER TABLE turn ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0; -- 0: nobody has counted
    ALTER TABLE turn ADD COLUMN counted_by TEXT NOT NULL DEFAULT '';
    UPDATE session SET
        turns = next_index,
        etag = lower(hex(randomblob(16))),
        created_at = coalesce((SELECT min(created_at) FROM turn WHERE session_id = id), 0),
        updated_at = coalesce((SELECT max(created_at) FROM turn WHERE session_id = id), 0);
    CREATE INDEX turn_by_principal ON turn(principal, session_id, idx) WHERE principal != '';
    CREATE INDEX session_expires ON session(expires_at) WHERE expires_at IS NOT NULL;
    """,
    """
    CREATE TABLE episode(
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        id TEXT NOT NULL,
        attempt INTEGER NOT NULL,  -- of the run that has told it; 0: no run has
        session TEXT NOT NULL,
        principal TEXT NOT NULL,
        run_id TEXT NOT NULL,
        type TEXT NOT NULL,
        name TEXT NOT NULL,
        outcome TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        body BLOB NOT NULL,        -- JSON, see episode_rows.py
        UNIQUE(tenant, agent, id)
    );
    CREATE INDEX episode_by_time ON episode(tenant, agent, created_at);
    CREATE INDEX episode_by_session ON episode(tenant, agent, session, created_at);
    CREATE INDEX episode_by_type ON episode(tenant, agent, type, created_at);
    CREATE INDEX episode_by_outcome ON episode(tenant, agent, outcome, created_at);
    CREATE INDEX episode_by_principal ON episode(tenant, agent, principal, created_at);
    CREATE INDEX episode_by_name ON episode(tenant, agent, name, created_at);
    CREATE INDEX episode_by_run ON episode(tenant, agent, run_id, created_at);
    CREATE INDEX episode_of_principal ON episode(tenant, principal) WHERE principal != '';
    CREATE INDEX episode_expires ON episode(expires_at) WHERE expires_at IS NOT NULL;
    """,
    """
    CREATE TABLE erased(
        mark BLOB PRIMARY KEY,     -- a hash, see servers/memory/marks.py
        at REAL NOT NULL           -- seconds since the epoch
    ) WITHOUT ROWID;
    """,
)

_ALIVE = "(expires_at IS NULL OR expires_at > ?)"
_NAMED = "tenant = ?1 AND agent = ?2 AND session = ?3 AND (expires_at IS NULL OR expires_at > ?4)"
_PAGE = (
    f"SELECT {TURN_COLUMNS} FROM turn WHERE session_id = (SELECT id FROM session WHERE {_NAMED}) "
    "AND idx > ? ORDER BY idx LIMIT ?"
)
# The order within is kept: SQLite drops none of a query that has a limit.
_LATEST = (
    "SELECT turns, iif(?5, summary, ''), (SELECT CAST(group_concat(message) AS BLOB) FROM "
    "(SELECT message FROM turn WHERE session_id = s.id AND idx >= iif(?5, s.until, 0) "
    f"ORDER BY idx DESC LIMIT ?6)) FROM session AS s WHERE {_NAMED}"
)
_NEWEST = (
    f"SELECT s.turns, {OF_T} FROM session AS s JOIN turn AS t ON t.session_id = s.id "
    f"WHERE {_NAMED} AND t.idx < ? ORDER BY t.idx DESC LIMIT ?"
)
_STANDING = f"SELECT turns, summary, until, etag FROM session WHERE {_NAMED}"
_SESSIONS = (
    "SELECT tenant, agent, session, turns, created_at, updated_at, expires_at, summary "
    f"FROM session WHERE tenant = ? AND agent = ? AND session > ? AND {_ALIVE} "
    "ORDER BY session LIMIT ?"
)
_HIS = (
    f"SELECT tenant, agent, session, {OF_T} "
    "FROM turn AS t JOIN session AS s ON s.id = t.session_id "
    "WHERE t.principal = ? AND t.principal != '' AND s.tenant = ? "
    "AND (agent, session, idx) > (?, ?, ?) "
    f"AND {_ALIVE} ORDER BY agent, session, idx LIMIT ?"
)


class SqliteConversations:
    """Needs a database that was opened with MIGRATIONS, `erasing`. `now` is the time by which
    sessions end: seconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def append(self, key: SessionKey, exchange: Exchange) -> int:
        bodies = [dumps(message) for message in exchange.messages]
        return await self._database.write(lambda db: _append(db, key, exchange, bodies))

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        where = (*self._named(key), after, limit)
        return await self._database.read(
            lambda db: [turn_from(row) for row in db.execute(_PAGE, where)]
        )

    async def latest(self, key: SessionKey, limit: int, *, unsummarised: bool = False) -> Latest:
        where = (*self._named(key), unsummarised, limit)
        row = await self._database.read(lambda db: db.execute(_LATEST, where).fetchone())
        if row is None:
            return Latest()
        total, summary, bodies = row
        return Latest(messages_from(bodies or b""), total, summary)

    async def newest(self, key: SessionKey, limit: int, before: int | None = None) -> Window:
        where = (*self._named(key), 2**62 if before is None else before, limit)
        rows = await self._database.read(lambda db: db.execute(_NEWEST, where).fetchall())
        return window_from(rows)

    async def standing(self, key: SessionKey) -> Standing:
        where = self._named(key)
        row = await self._database.read(lambda db: db.execute(_STANDING, where).fetchone())
        return Standing(*row) if row else Standing()

    async def clear(self, key: SessionKey) -> int:
        turns = await self._database.write(lambda db: _clear(db, key, self._now()))
        await self._database.write_out()
        return turns

    async def summarise(self, key: SessionKey, summary: Summary, etag: str) -> bool:
        sql = (
            "UPDATE session SET summary = ?, until = ?, etag = ? "
            f"WHERE tenant = ? AND agent = ? AND session = ? AND etag = ? AND {_ALIVE}"
        )
        names = (key.tenant, key.agent, key.session, summary.etag, self._now())
        values = (summary.text, summary.until, etag, *names)
        return await self._database.write(lambda db: db.execute(sql, values).rowcount == 1)

    async def count(self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            found = db.execute(f"SELECT id FROM session WHERE {_NAMED}", self._named(key))
            if row := found.fetchone():
                sql = "UPDATE turn SET tokens = ?, counted_by = ? WHERE session_id = ? AND idx = ?"
                db.executemany(sql, [(tokens, by, row[0], index) for index, tokens in counts])

        await self._database.write(work)

    async def sessions(
        self, tenant: str, agent: str, after: str, limit: int
    ) -> Sequence[SessionInfo]:
        where = (tenant, agent, after, self._now(), limit)
        return await self._database.read(
            lambda db: [session_from(row) for row in db.execute(_SESSIONS, where)]
        )

    async def of_principal(
        self, tenant: str, principal: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Recorded]:
        where = (principal, tenant, *after, self._now(), limit)
        return await self._database.read(
            lambda db: [recorded_from(row) for row in db.execute(_HIS, where)]
        )

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        turns = await self._database.write(lambda db: _erase(db, tenant, principal, etag))
        await self._database.wipe()  # also where an earlier try came to the first half only
        return turns

    async def sweep(self) -> int:
        sql = "DELETE FROM session WHERE expires_at <= ?"
        over = await self._database.write(lambda db: db.execute(sql, (self._now(),)).rowcount)
        if over:
            await self._database.write_out()
        return over

    def _named(self, key: SessionKey) -> tuple[str, str, str, float]:
        return key.tenant, key.agent, key.session, self._now()


def _append(
    db: sqlite3.Connection, key: SessionKey, exchange: Exchange, bodies: Sequence[bytes]
) -> int:
    id, first, total, ttl = _session(db, key, exchange)
    if exchange.run_id and _wrote(db, id, exchange.run_id):
        return total
    rows = [
        (id, first + n, exchange.run_id, exchange.at, body, exchange.principal, tokens)
        for n, (body, tokens) in enumerate(zip(bodies, exchange.counts, strict=True))
    ]
    db.executemany(
        "INSERT INTO turn(session_id, idx, run_id, created_at, message, principal, tokens, "
        "counted_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*row, exchange.counted_by) for row in rows],
    )
    ttl = ttl if exchange.ttl is None else exchange.ttl
    total += len(rows)
    db.execute(
        "UPDATE session SET next_index = ?, turns = ?, updated_at = ?, ttl = ?, expires_at = ? "
        "WHERE id = ?",
        (first + len(rows), total, exchange.at, ttl, exchange.at + ttl if ttl else None, id),
    )
    return total


def _session(
    db: sqlite3.Connection, key: SessionKey, exchange: Exchange
) -> tuple[int, int, int, float]:
    """Its id, the index of its next turn, how many it has, and how long it lives; a new session
    where there is none any more."""
    names = (key.tenant, key.agent, key.session)
    db.execute(
        "DELETE FROM session WHERE tenant = ? AND agent = ? AND session = ? AND expires_at <= ?",
        (*names, exchange.at),
    )
    found: tuple[int, int, int, float] | None = db.execute(
        "SELECT id, next_index, turns, ttl FROM session "
        "WHERE tenant = ? AND agent = ? AND session = ?",
        names,
    ).fetchone()
    if found is not None:
        return found
    made = db.execute(
        "INSERT INTO session(tenant, agent, session, created_at, etag) VALUES (?, ?, ?, ?, ?)",
        (*names, exchange.at, exchange.id),
    )
    return made.lastrowid or 0, 0, 0, 0.0


def _wrote(db: sqlite3.Connection, session: int, run_id: str) -> bool:
    # The second condition is what lets SQLite use the partial index.
    found = db.execute(
        "SELECT 1 FROM turn WHERE session_id = ? AND run_id = ? AND run_id != '' LIMIT 1",
        (session, run_id),
    )
    return found.fetchone() is not None


def _clear(db: sqlite3.Connection, key: SessionKey, now: float) -> int:
    found = db.execute(
        "DELETE FROM session WHERE tenant = ? AND agent = ? AND session = ? "
        "RETURNING turns, expires_at",
        (key.tenant, key.agent, key.session),
    ).fetchall()
    return sum(turns for turns, ends in found if ends is None or ends > now)


def _erase(db: sqlite3.Connection, tenant: str, principal: str, etag: str) -> int:
    his = (
        "SELECT DISTINCT t.session_id FROM turn AS t JOIN session AS s ON s.id = t.session_id "
        "WHERE t.principal = ? AND t.principal != '' AND s.tenant = ?"
    )
    total = 0
    for (id,) in db.execute(his, (principal, tenant)).fetchall():
        gone = db.execute(
            "DELETE FROM turn WHERE session_id = ? AND principal = ?", (id, principal)
        ).rowcount
        # A new etag: a summary that is being made just now may not come back.
        db.execute(
            "UPDATE session SET turns = turns - ?, summary = '', until = 0, etag = ? WHERE id = ?",
            (gone, etag, id),
        )
        db.execute("DELETE FROM session WHERE id = ? AND turns = 0", (id,))
        total += gone
    return total
