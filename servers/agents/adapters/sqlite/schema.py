"""The tables of a SQLite file with runs. A published migration never changes."""

MIGRATIONS = (
    """
    CREATE TABLE run(
        run_id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at REAL NOT NULL,  -- seconds since the epoch
        request_id TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        body BLOB NOT NULL         -- the whole run as JSON
    );
    CREATE UNIQUE INDEX run_by_request ON run(tenant, request_id) WHERE request_id != '';
    CREATE INDEX run_by_time ON run(tenant, created_at, run_id);
    CREATE INDEX run_by_agent ON run(tenant, agent, created_at, run_id);
    CREATE INDEX run_by_session ON run(tenant, session, created_at, run_id);
    CREATE INDEX run_unfinished ON run(created_at) WHERE state IN ('queued', 'running');
    CREATE TABLE run_event(
        run_id TEXT NOT NULL REFERENCES run(run_id) ON DELETE CASCADE,
        seq INTEGER NOT NULL,   -- of the first event in the row
        last INTEGER NOT NULL,  -- of the last one
        time REAL NOT NULL,     -- of the first, in seconds since the epoch
        body BLOB NOT NULL,     -- the events as JSON
        PRIMARY KEY(run_id, seq)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE run ADD COLUMN parent TEXT NOT NULL DEFAULT '';
    ALTER TABLE run ADD COLUMN root TEXT NOT NULL DEFAULT '';   -- of the tree; its own id
    ALTER TABLE run ADD COLUMN wake_at REAL;        -- when it goes on by itself, if it waits
    ALTER TABLE run ADD COLUMN ended_at REAL;       -- NULL: it has not ended
    ALTER TABLE run ADD COLUMN agent_digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE run ADD COLUMN held_by TEXT NOT NULL DEFAULT '';  -- who has taken a waiting run
    ALTER TABLE run ADD COLUMN cancel TEXT;         -- why somebody asked to cancel it
    ALTER TABLE run ADD COLUMN webhook_at REAL;     -- when its end is to be told; NULL: never
    ALTER TABLE run ADD COLUMN webhook_tries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE run ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;
    UPDATE run SET root = run_id;
    UPDATE run SET ended_at = ifnull(json_extract(CAST(body AS TEXT), '$.ended_at'), created_at)
        WHERE state NOT IN ('queued', 'running');
    CREATE INDEX run_by_parent ON run(tenant, parent, created_at, run_id) WHERE parent != '';
    CREATE INDEX run_by_root ON run(tenant, root, created_at, run_id);
    CREATE INDEX run_in_line ON run(tenant, agent, session, created_at, run_id)
        WHERE ended_at IS NULL;
    CREATE INDEX run_by_digest ON run(agent_digest) WHERE ended_at IS NULL;
    CREATE INDEX run_wakes ON run(wake_at) WHERE wake_at IS NOT NULL;
    CREATE INDEX run_ended ON run(ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX run_to_compact ON run(ended_at) WHERE ended_at IS NOT NULL AND compacted = 0;
    CREATE INDEX run_to_tell ON run(webhook_at) WHERE webhook_at IS NOT NULL;
    CREATE TABLE agent_version(
        digest TEXT PRIMARY KEY,
        kept_at REAL NOT NULL,   -- when it was asked for last, to the hour
        manifest BLOB NOT NULL   -- as JSON
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE run ADD COLUMN principal TEXT NOT NULL DEFAULT '';  -- on whose behalf
    UPDATE run SET principal = ifnull(json_extract(CAST(body AS TEXT), '$.principal'), '')
        WHERE json_valid(CAST(body AS TEXT));
    CREATE INDEX run_by_principal ON run(tenant, principal, created_at, run_id)
        WHERE principal != '';
    """,
)
