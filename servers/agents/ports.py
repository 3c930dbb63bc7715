"""What the agents service needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from servers.domain.runs import Run, RunEvent, RunFilter, RunPage


class RunStore(Protocol):
    """Keeps runs and their logs durably: what has returned is on disk.

    The log is the fence: an append must begin after the last stored sequence, so whoever
    takes a run over by appending to it stops its former owner at that one's next append.
    Specification: tests/contract/test_run_store.py.
    """

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]:
        """Put a run and the beginning of its log, or all of both, on record.

        With a `request_id` that the tenant has used before, nothing is stored: returns
        that earlier run and False. Raises AlreadyExists (REQUEST_ID_REUSED) where that
        one's `request_hash` is another, Conflict (FENCED) where the run id is taken.
        """
        ...

    async def requested(self, tenant: str, request_id: str, request_hash: str) -> Run | None:
        """The run that `create` would return instead of a new one; raises as `create` does."""
        ...

    async def append(self, run_id: str, events: Sequence[RunEvent], run: Run | None = None) -> None:
        """Add to the log and, where given, replace the run, both or neither.

        Raises Conflict (FENCED) unless the first sequence is higher than all stored
        ones, NotFound for an unknown run.
        """
        ...

    async def get(self, tenant: str, run_id: str) -> Run:
        """Raises NotFound, also for the run of another tenant."""
        ...

    async def list(
        self, tenant: str, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        """Newest first. Runs that are created meanwhile don't shift the pages."""
        ...

    async def events(
        self, run_id: str, after_sequence: int = 0, limit: int = 1000
    ) -> Sequence[RunEvent]:
        """The first `limit` events after a position. Of an unknown run: none.

        Not scoped by tenant: ask `get` first.
        """
        ...

    async def last_sequence(self, run_id: str) -> int:
        """Of the last stored event; 0 where there is none."""
        ...

    async def unfinished(self) -> Sequence[tuple[Run, Sequence[RunEvent]]]:
        """All runs that have not ended, oldest first, with their whole logs. For start-up."""
        ...
