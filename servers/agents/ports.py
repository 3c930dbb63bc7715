"""What the agents service needs from the outside."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from servers.domain.chat import Json
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run, RunFilter, RunPage, RunSelection
from servers.domain.semantic import Erasure


class RunStore(Protocol):
    """Keeps runs and their logs durably: what has returned is on disk.

    Several processes may work on one store, each with a RunStore of its own, which is the
    owner of the runs it has created, claimed or taken. The log is the fence: an append must
    come from the owner and begin after the last stored sequence, so whoever takes a run
    over stops its former owner at that one's next append.
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

        Raises Conflict (FENCED) where the run is another owner's or unless the first
        sequence is higher than all stored ones, NotFound for an unknown run.
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

    async def changed(self, run_id: str, after_sequence: int, seconds: float) -> None:
        """Return when the log may have events after a position, or after so many seconds."""
        ...

    async def line(self, tenant: str, agent: str, session: str) -> Sequence[str]:
        """The ids of the session's runs that have not ended, waiting ones too, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process learns when it renews its leases."""

    lost: frozenset[str] = frozenset()  # another process has them
    cancelled: Mapping[str, str] = field(default_factory=dict)  # run id -> reason


class Leases(Protocol):
    """Who works on which run. A process renews the leases of its runs with a steady beat;
    what is not renewed in time is anybody's.

    Specification: tests/contract/test_leases.py. Times are the store's, never the process's.
    """

    lease: float  # seconds; infinite where one process has the store for itself
    shared: bool  # whether other processes may work on the same store

    async def claim(
        self, besides: Collection[str], limit: int
    ) -> Sequence[tuple[Run, Sequence[RunEvent]]]:
        """Become the owner of runs that nobody works on, oldest first, with their whole logs:
        runs that have not ended and don't wait, and those whose timer is due.

        `besides`: runs that this process works on.
        """
        ...

    async def take(self, tenant: str, run_id: str) -> tuple[Run, Sequence[RunEvent]]:
        """Become the owner of a waiting run. Of several that try at once one succeeds.

        Raises NotFound, or NotReady (RUN_NOT_WAITING) where it doesn't wait.
        """
        ...

    async def renew(self, run_ids: Collection[str]) -> Beat: ...

    async def release(self, run_ids: Collection[str]) -> None:
        """Let others claim them at once."""
        ...

    async def ask_cancel(self, tenant: str, run_id: str, reason: str) -> None:
        """Tell the owner, with its next beat at the latest. Raises NotFound."""
        ...

    async def news(self, seconds: float) -> None:
        """Return when `renew` or `claim` may have more to tell than the last time, or after
        so many seconds: what a process does between two beats."""
        ...


class AgentVersions(Protocol):
    """Declarations that runs began with, for as long as such a run has not ended.

    Specification: tests/contract/test_agent_versions.py.
    """

    async def keep(self, digest: str, manifest: Json) -> None:
        """Again: does nothing, and costs no write. To be asked for every run: what no run
        needs is forgotten."""
        ...

    async def kept(self, digest: str) -> Json | None: ...


class Outbox(Protocol):
    """Ends of runs that a webhook is to be told of, written with the end of the run.

    Specification: tests/contract/test_outbox.py.
    """

    async def undelivered(self, limit: int, lease: float) -> Sequence[tuple[Run, int]]:
        """Ended runs whose webhook is due, with the number of earlier attempts. They are
        this process's for `lease` seconds."""
        ...

    async def delivered(self, run_id: str) -> None: ...

    async def try_again(self, run_id: str, after: float) -> None:
        """In so many seconds; with an infinite number of them never."""
        ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a run may leave in memory: what was asked, and what was answered."""

    run_id: str
    tenant: str
    agent: str
    session: str
    principal: str
    tree: str  # on whose budget a model may be asked about it
    query: str
    answer: str
    said_at: float  # seconds since the epoch: when the run began
    tries: int = 0  # to remember it, so far
    facts: tuple[str, ...] | None = None  # that a model has found in it; None: none was asked yet


class Lessons(Protocol):
    """Lessons that are not learned yet, durably. Each is the process's that put it down.

    Specification: tests/contract/test_lessons.py.
    """

    async def put(self, lesson: Lesson) -> None:
        """Of a run that has one already: does nothing."""
        ...

    async def due(self, now: float, limit: int) -> Sequence[Lesson]:
        """Those that wait longest first."""
        ...

    async def done(self, run_id: str) -> None:
        """It is gone, from the files, too."""
        ...

    async def drop(self, erasure: Erasure) -> int:
        """Those that are erased are gone, from the files, too. Returns how many. Raises Unavailable
        (STORAGE_BUSY) where that has to be asked for again."""
        ...

    async def drop_of(self, run_ids: Collection[str]) -> None:
        """As `drop`, for those of runs that are deleted."""
        ...

    async def again(self, run_id: str, at: float) -> None:
        """It did not work: it is due at that time."""
        ...

    async def found(self, run_id: str, facts: Sequence[str]) -> None:
        """Keep what a model has found in it, as long as the lesson is there. Of one that is
        gone: does nothing."""
        ...


class Retention(Protocol):
    """What is forgotten. Specification: tests/contract/test_retention.py."""

    async def forget(self, ended_before: float, limit: int) -> int:
        """Delete runs that ended before, with their logs. Returns how many.

        Not those whose webhook is still to be told, nor parts of a tree that goes on.
        """
        ...

    async def compact(self, ended_before: float, limit: int) -> int:
        """Drop pieces of text whose model call has its whole reply on record. Returns how
        many runs were made smaller: 0 where none is left that can be."""
        ...


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


@dataclass(frozen=True, slots=True)
class Kin:
    """A run, as one of its tree."""

    run_id: str
    root: str
    ended: bool


class RunTrees(Protocol):
    """Runs to be deleted: a run goes with all the runs of its tree, or not at all.

    Specification: tests/contract/test_run_trees.py.
    """

    async def roots(
        self, tenant: str, which: RunSelection, after: str, limit: int
    ) -> Sequence[str]:
        """The names of trees whose first run is selected, in order, after one of them. Of a tree
        that has lost its first run any run may be selected."""
        ...

    async def kin(self, tenant: str, roots: Collection[str]) -> Sequence[Kin]:
        """All runs of these trees."""
        ...

    async def delete(self, tenant: str, roots: Collection[str]) -> int:
        """Delete the trees of which every run has ended, with the logs, together or none of them.
        Returns how many runs that were."""
        ...

    async def wipe(self) -> None:
        """What was deleted is in no file of this process any more. Raises Unavailable
        (STORAGE_BUSY) where that has to be asked for again."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is kept of runs, and of agents that were declared through the API."""

    runs: RunStore
    leases: Leases
    versions: AgentVersions
    outbox: Outbox
    retention: Retention
    trees: RunTrees
    agents: AgentStore
