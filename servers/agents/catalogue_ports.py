"""What the catalogue needs from the outside."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from servers.domain.chat import Json


@dataclass(frozen=True, slots=True)
class StoredAgent:
    """An agent that was declared through the API, secrets included."""

    tenant: str
    name: str
    manifest: Json = field(repr=False)
    revision: int  # from 1, one more with every change
    created_at: float
    updated_at: float


class AgentStore(Protocol):
    """Keeps agents durably. Specification: tests/contract/test_agent_store.py."""

    shared: bool  # whether other processes may change what is stored

    async def get(self, tenant: str, name: str) -> StoredAgent | None: ...

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[StoredAgent]:
        """By name, those behind `after`."""
        ...

    async def put(self, agent: StoredAgent) -> None:
        """Store as revision n where n-1 is stored (0: nothing). Raises Conflict otherwise."""
        ...

    async def delete(self, tenant: str, name: str, revision: int) -> None:
        """Raises Conflict unless `revision` is what is stored."""
        ...
