"""The tables of runs in PostgreSQL. For how they change see `servers.kernel.postgres_schema`."""

MIGRATIONS = (
    """
    CREATE TABLE astromesh_run(
        run_id text COLLATE "C" PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        agent text COLLATE "C" NOT NULL,
        session text COLLATE "C" NOT NULL,
        state text NOT NULL,
        created_at float8 NOT NULL,     -- times are in seconds since the epoch
        parent text COLLATE "C" NOT NULL,
        root text COLLATE "C" NOT NULL, -- of its tree; of the first run its own id
        wake_at float8,                 -- when it goes on by itself, if it waits
        ended_at float8,                -- NULL: it has not ended
        agent_digest text COLLATE "C" NOT NULL,
        body bytea NOT NULL,            -- the whole run as JSON
        request_id text COLLATE "C" NOT NULL,
        request_hash text COLLATE "C" NOT NULL,
        owner text COLLATE "C" NOT NULL,  -- who may append to the log
        lease_until float8 NOT NULL,      -- 0: nobody works on it
        cancel text,                      -- why somebody asked to cancel it
        webhook_at float8,                -- when its end is to be told; NULL: never
        webhook_tries int NOT NULL DEFAULT 0,
        compacted bool NOT NULL DEFAULT false
    ) WITH (fillfactor = 80);  -- leases are renewed in place: no index has their columns
    CREATE UNIQUE INDEX astromesh_run_by_request ON astromesh_run(tenant, request_id)
        WHERE request_id <> '';
    CREATE INDEX astromesh_run_by_time ON astromesh_run(tenant, created_at, run_id);
    CREATE INDEX astromesh_run_by_agent ON astromesh_run(tenant, agent, created_at, run_id);
    CREATE INDEX astromesh_run_by_session ON astromesh_run(tenant, session, created_at, run_id);
    CREATE INDEX astromesh_run_by_parent ON astromesh_run(tenant, parent, created_at, run_id)
        WHERE parent <> '';
    CREATE INDEX astromesh_run_by_root ON astromesh_run(tenant, root, created_at, run_id);
    CREATE INDEX astromesh_run_in_line
        ON astromesh_run(tenant, agent, session, created_at, run_id) WHERE ended_at IS NULL;
    CREATE INDEX astromesh_run_at_work ON astromesh_run(created_at, run_id)
        WHERE state IN ('queued', 'running');
    CREATE INDEX astromesh_run_wakes ON astromesh_run(wake_at) WHERE wake_at IS NOT NULL;
    CREATE INDEX astromesh_run_by_digest ON astromesh_run(agent_digest) WHERE ended_at IS NULL;
    CREATE INDEX astromesh_run_ended ON astromesh_run(ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX astromesh_run_to_compact ON astromesh_run(ended_at)
        WHERE ended_at IS NOT NULL AND NOT compacted;
    CREATE INDEX astromesh_run_to_tell ON astromesh_run(webhook_at) WHERE webhook_at IS NOT NULL;
    -- Without a foreign key: it would lock the run a second time for each row.
    CREATE TABLE astromesh_run_event(
        run_id text COLLATE "C" NOT NULL,
        seq int8 NOT NULL,    -- of the first event in the row
        last int8 NOT NULL,   -- of the last one
        time float8 NOT NULL, -- of the first
        body bytea NOT NULL,  -- the events as JSON
        PRIMARY KEY(run_id, seq)
    );
    CREATE TABLE astromesh_agent_version(
        digest text COLLATE "C" PRIMARY KEY,
        kept_at float8 NOT NULL, -- when it was asked for last, to the hour
        manifest bytea NOT NULL  -- as JSON
    );
    """,
    # NULL: by a process of an older version, or before there was the column.
    """
    ALTER TABLE astromesh_run ADD COLUMN principal text COLLATE "C"; -- on whose behalf
    CREATE INDEX astromesh_run_by_principal
        ON astromesh_run(tenant, principal, created_at, run_id) WHERE principal <> '';
    CREATE INDEX astromesh_run_unnamed ON astromesh_run(run_id) WHERE principal IS NULL;
    """,
)
