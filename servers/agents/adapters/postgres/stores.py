"""Opens what is kept of runs and agents in PostgreSQL. Needs the extra `postgres`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.agents.adapters.postgres import agents as postgres_agents
from servers.agents.adapters.postgres.agents import PostgresAgents
from servers.agents.adapters.postgres.leases import PostgresLeases
from servers.agents.adapters.postgres.listening import listening
from servers.agents.adapters.postgres.outbox import PostgresOutbox
from servers.agents.adapters.postgres.retention import PostgresRetention, PostgresVersions
from servers.agents.adapters.postgres.runs import PostgresRuns
from servers.agents.adapters.postgres.schema import MIGRATIONS
from servers.agents.adapters.postgres.statements import Statements
from servers.agents.adapters.postgres.trees import PostgresTrees
from servers.agents.adapters.postgres.writer import writing
from servers.agents.ports import Stores
from servers.kernel.postgres import PATIENCE, open_postgres
from servers.kernel.postgres_schema import migrate


@asynccontextmanager
async def open_postgres_stores(
    dsn: str, lease: float, owner: str, patience: float = PATIENCE
) -> AsyncIterator[Stores]:
    """`owner` names this life of the process, as no other. A run is its own for `lease`
    seconds from each renewal. While the server is away work waits for it, up to `patience`.

    Raises Unavailable (STORE_UNAVAILABLE), NotReady (STATE_TOO_NEW, STATE_NOT_WRITABLE).
    """
    async with open_postgres(dsn, "spec.runs of runtime.yaml", patience) as postgres:
        await migrate(postgres, "runs", MIGRATIONS)
        await migrate(postgres, "agents", postgres_agents.MIGRATIONS)
        async with writing(postgres) as writer, listening(postgres, owner) as heard:
            yield Stores(
                PostgresRuns(postgres, writer, Statements(owner, lease), heard),
                PostgresLeases(postgres, writer, heard, owner, lease),
                PostgresVersions(postgres),
                PostgresOutbox(postgres),
                PostgresRetention(postgres),
                PostgresTrees(postgres),
                PostgresAgents(postgres),
            )
