"""Conversations in PostgreSQL. Needs the extra `postgres`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from servers.domain.memory import Recorded, SessionInfo, SessionKey, Summary, Turn
from servers.kernel.postgres import Connection, Postgres, open_postgres
from servers.kernel.postgres_schema import migrate
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
    CREATE TABLE astromesh_session(
        id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        agent text COLLATE "C" NOT NULL,
        session text COLLATE "C" NOT NULL,
        next_index int4 NOT NULL DEFAULT 0, -- of its next turn
        turns int4 NOT NULL DEFAULT 0,      -- that it has
        created_at float8 NOT NULL,         -- times are in seconds since the epoch
        updated_at float8 NOT NULL,
        ttl float8 NOT NULL DEFAULT 0,      -- seconds; 0: for ever
        expires_at float8,
        summary text NOT NULL DEFAULT '',
        until int4 NOT NULL DEFAULT 0,      -- turns below are in it
        etag text COLLATE "C" NOT NULL,
        UNIQUE(tenant, agent, session)
    ) WITH (fillfactor = 80);
    CREATE INDEX astromesh_session_expires ON astromesh_session(expires_at)
        WHERE expires_at IS NOT NULL;
    CREATE TABLE astromesh_turn(
        session_id int8 NOT NULL REFERENCES astromesh_session(id) ON DELETE CASCADE,
        idx int4 NOT NULL,
        mark text COLLATE "C" NOT NULL,     -- of what was added together with it
        run_id text COLLATE "C" NOT NULL,
        principal text COLLATE "C" NOT NULL,
        created_at float8 NOT NULL,
        tokens int4 NOT NULL,               -- 0: nobody has counted
        counted_by text NOT NULL,
        message bytea NOT NULL,             -- JSON, see kernel/stored_json.py
        PRIMARY KEY(session_id, idx)
    );
    CREATE INDEX astromesh_turn_by_mark ON astromesh_turn(session_id, mark);
    CREATE INDEX astromesh_turn_by_principal ON astromesh_turn(principal, session_id, idx)
        WHERE principal <> '';
    """,
    # An exchange is one message to and fro: a transaction in pieces would be five. Each statement
    # in it sees what was committed before it began, also by those it has waited for.
    """
    CREATE FUNCTION astromesh_append(
        its_tenant text, its_agent text, its_session text, at float8, new_etag text,
        its_mark text, its_run text, who text, counter text,
        counts int4[], bodies bytea[], lives float8 -- seconds; 0: for ever; null: as before
    ) RETURNS int4 LANGUAGE plpgsql AS $$
    DECLARE
        s astromesh_session;
        added int4 := 0;
    BEGIN
        -- Takes the session's row, and with it the turn to write: whoever comes next waits.
        SELECT * INTO s FROM astromesh_session WHERE tenant = its_tenant
            AND agent = its_agent AND session = its_session FOR UPDATE;
        IF s.expires_at <= at THEN -- it is over, and begins anew
            DELETE FROM astromesh_session WHERE id = s.id;
            s.id := NULL;
        END IF;
        IF s.id IS NULL THEN
            INSERT INTO astromesh_session(tenant, agent, session, created_at, updated_at, etag)
                VALUES (its_tenant, its_agent, its_session, at, at, new_etag)
                ON CONFLICT (tenant, agent, session) DO UPDATE SET updated_at = at
                RETURNING * INTO s;
        END IF;
        IF NOT EXISTS (SELECT FROM astromesh_turn WHERE session_id = s.id AND mark = its_mark) THEN
            INSERT INTO astromesh_turn(session_id, idx, mark, run_id, principal, created_at,
                    tokens, counted_by, message)
                SELECT s.id, s.next_index + item.n - 1, its_mark, its_run, who, at,
                    item.tokens, counter, item.body
                FROM unnest(counts, bodies) WITH ORDINALITY AS item(tokens, body, n);
            added := cardinality(bodies);
        END IF;
        UPDATE astromesh_session SET next_index = next_index + added, turns = turns + added,
            updated_at = at, ttl = coalesce(lives, ttl),
            expires_at = at + nullif(coalesce(lives, ttl), 0)
            WHERE id = s.id;
        RETURN s.turns + added;
    END $$;
    """,
)

_PATIENCE = 10.0  # seconds that a run waits for a server that is away: a restart takes less
_NAMED = "tenant = $1 AND agent = $2 AND session = $3"
_APPEND = "SELECT astromesh_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_ALIVE = "(expires_at IS NULL OR expires_at > {now})"
_PAGE = (
    f"SELECT {TURN_COLUMNS} FROM astromesh_turn WHERE session_id = (SELECT id FROM "
    f"astromesh_session WHERE {_NAMED} AND {_ALIVE.format(now='$4')}) "
    "AND idx > $5 ORDER BY idx LIMIT $6"
)
_LATEST = (
    "SELECT s.turns, CASE WHEN $5 THEN s.summary ELSE '' END, ARRAY(SELECT message "
    "FROM astromesh_turn WHERE session_id = s.id AND idx >= CASE WHEN $5 THEN s.until ELSE 0 END "
    "ORDER BY idx DESC LIMIT $6) "
    f"FROM astromesh_session AS s WHERE {_NAMED} AND {_ALIVE.format(now='$4')}"
)
_NEWEST = (
    f"SELECT s.turns, {OF_T} FROM astromesh_session AS s JOIN LATERAL (SELECT * "
    "FROM astromesh_turn WHERE session_id = s.id AND idx < $5 ORDER BY idx DESC LIMIT $6) AS t "
    f"ON true WHERE {_NAMED} AND {_ALIVE.format(now='$4')} ORDER BY t.idx DESC"
)
_STANDING = (
    "SELECT turns, summary, until, etag FROM astromesh_session "
    f"WHERE {_NAMED} AND {_ALIVE.format(now='$4')}"
)
_CLEAR = f"DELETE FROM astromesh_session WHERE {_NAMED} RETURNING turns, expires_at"
_SUMMARISE = (
    "UPDATE astromesh_session SET summary = $6, until = $7, etag = $8 "
    f"WHERE {_NAMED} AND {_ALIVE.format(now='$4')} AND etag = $5 RETURNING 1"
)
_COUNT = (
    "UPDATE astromesh_turn AS t SET tokens = item.tokens, counted_by = $4 "
    "FROM unnest($5::int4[], $6::int4[]) AS item(idx, tokens), astromesh_session AS s "
    f"WHERE {_NAMED} AND t.session_id = s.id AND t.idx = item.idx"
)
_SESSIONS = (
    "SELECT tenant, agent, session, turns, created_at, updated_at, expires_at, summary "
    "FROM astromesh_session WHERE tenant = $1 AND agent = $2 AND session > $3 "
    f"AND {_ALIVE.format(now='$4')} ORDER BY session LIMIT $5"
)
_HIS = (
    f"SELECT s.tenant, s.agent, s.session, {OF_T} FROM astromesh_turn AS t "
    "JOIN astromesh_session AS s ON s.id = t.session_id "
    "WHERE t.principal = $1 AND t.principal <> '' AND s.tenant = $2 "
    f"AND (s.agent, s.session, t.idx) > ($3, $4, $5) AND {_ALIVE.format(now='$6')} "
    "ORDER BY s.agent, s.session, t.idx LIMIT $7"
)
# In the order in which appends take them: two who erase never wait for one another in turn.
_WHERE_HE_SPOKE = (
    "SELECT s.id FROM astromesh_session AS s WHERE s.tenant = $2 AND s.id IN (SELECT session_id "
    "FROM astromesh_turn WHERE principal = $1 AND principal <> '') ORDER BY s.id FOR UPDATE"
)
_ERASE = (
    "WITH gone AS (DELETE FROM astromesh_turn WHERE session_id = $1 AND principal = $2 "
    "RETURNING 1), n AS (SELECT count(*)::int4 AS turns FROM gone) "
    "UPDATE astromesh_session SET turns = astromesh_session.turns - n.turns, summary = '', "
    "until = 0, etag = $3 FROM n WHERE id = $1 RETURNING n.turns"
)


class PostgresConversations:
    """Made by `open_postgres_conversations`."""

    def __init__(self, postgres: Postgres, now: Callable[[], float]) -> None:
        self._postgres, self._now = postgres, now

    async def append(self, key: SessionKey, exchange: Exchange) -> int:
        bodies = [dumps(message) for message in exchange.messages]

        named = key.tenant, key.agent, key.session, exchange.at, exchange.id
        who = exchange.mark, exchange.run_id, exchange.principal
        what = exchange.counted_by, list(exchange.counts), bodies, exchange.ttl
        # Again, where the connection was lost: what has a mark already is not added twice.
        rows = await self._postgres.fetch(_APPEND, *named, *who, *what)
        return int(rows[0][0])

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        rows = await self._postgres.fetch(_PAGE, *self._names(key), after, limit)
        return [turn_from(row) for row in rows]

    async def latest(self, key: SessionKey, limit: int, *, unsummarised: bool = False) -> Latest:
        rows = await self._postgres.fetch(_LATEST, *self._names(key), unsummarised, limit)
        if not rows:
            return Latest()
        total, summary, bodies = rows[0]
        return Latest(messages_from(b",".join(bodies)), total, summary)

    async def newest(self, key: SessionKey, limit: int, before: int | None = None) -> Window:
        last = 2**31 - 1 if before is None else before
        rows = await self._postgres.fetch(_NEWEST, *self._names(key), last, limit)
        return window_from(rows)

    async def standing(self, key: SessionKey) -> Standing:
        rows = await self._postgres.fetch(_STANDING, *self._names(key))
        return Standing(*rows[0]) if rows else Standing()

    async def clear(self, key: SessionKey) -> int:
        now = self._now()
        rows = await self._postgres.fetch(_CLEAR, key.tenant, key.agent, key.session)
        return sum(turns for turns, ends in rows if ends is None or ends > now)

    async def summarise(self, key: SessionKey, summary: Summary, etag: str) -> bool:
        values = (summary.etag, summary.text, summary.until, etag)
        return bool(await self._postgres.fetch(_SUMMARISE, *self._names(key), *values))

    async def count(self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str) -> None:
        indexes, tokens = [index for index, _ in counts], [tokens for _, tokens in counts]
        names = (key.tenant, key.agent, key.session)
        await self._postgres.fetch(_COUNT, *names, by, indexes, tokens)

    async def sessions(
        self, tenant: str, agent: str, after: str, limit: int
    ) -> Sequence[SessionInfo]:
        rows = await self._postgres.fetch(_SESSIONS, tenant, agent, after, self._now(), limit)
        return [session_from(row) for row in rows]

    async def of_principal(
        self, tenant: str, principal: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Recorded]:
        where = (principal, tenant, *after, self._now(), limit)
        return [recorded_from(row) for row in await self._postgres.fetch(_HIS, *where)]

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        async def work(connection: Connection) -> int:
            total = 0
            async with connection.transaction():
                for row in await connection.fetch(_WHERE_HE_SPOKE, principal, tenant):
                    total += await connection.fetchval(_ERASE, row["id"], principal, etag)
                    sql = "DELETE FROM astromesh_session WHERE id = $1 AND turns = 0"
                    await connection.execute(sql, row["id"])
            return total

        return await self._postgres.steadily(work)

    async def sweep(self) -> int:
        sql = "DELETE FROM astromesh_session WHERE expires_at <= $1 RETURNING 1"
        return len(await self._postgres.fetch(sql, self._now()))

    def _names(self, key: SessionKey) -> tuple[str, str, str, float]:
        return key.tenant, key.agent, key.session, self._now()


@asynccontextmanager
async def open_postgres_conversations(
    dsn: str, said_in: str, now: Callable[[], float], patience: float = _PATIENCE
) -> AsyncIterator[PostgresConversations]:
    """Raises Unavailable (STORE_UNAVAILABLE), NotReady (STATE_TOO_NEW, STATE_NOT_WRITABLE)."""
    async with open_postgres(dsn, said_in, patience) as postgres:
        await migrate(postgres, "conversations", MIGRATIONS)
        yield PostgresConversations(postgres, now)
