"""The runs at work in this process, and the last ones that were not written down."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from servers.agents.runs.execution import Execution
from servers.domain.run_events import RunEvent
from servers.domain.runs import Durability, Run
from servers.kernel.errors import AlreadyExists, Exhausted


@dataclass(frozen=True, slots=True)
class Kept:
    """An ended run that only memory knows."""

    run: Run
    events: tuple[RunEvent, ...]


class ActiveRuns:
    """`kept` is how many ended runs that only memory knows can still be asked for."""

    def __init__(self, most: int, most_of_tenant: int | None = None, kept: int = 256) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._most_kept = kept
        self._tenants: Counter[str] = Counter()
        self._runs: dict[str, Execution] = {}
        self._requests: dict[tuple[str, str], tuple[str, str]] = {}  # -> run id, request hash
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Execution]:
        return iter(list(self._runs.values()))

    @property
    def free(self) -> int:
        """How many runs of others may be taken up. One that only waits for a sub-agent's run
        takes no place here: that run may be what is to be taken up."""
        return self._most - sum(not execution.errands for execution in self._runs.values())

    def admit(self, tenant: str) -> None:
        """Refuse a run where as many as allowed are at work. Never an unbounded queue."""
        if len(self._runs) >= self._most:
            raise _too_many(f"{self._most} runs are active already", self._most)
        most = self._most_of_tenant
        if most is not None and self._tenants[tenant] >= most:
            raise _too_many(f"{most} runs of tenant {tenant!r} are active already", most)

    def add(self, execution: Execution) -> None:
        run = execution.run
        self._runs[run.id] = execution
        self._tenants[run.tenant] += 1
        if run.request_id and run.attempt == 1:  # else the store knows the request's hash
            self._requests[run.tenant, run.request_id] = run.id, execution.request_hash

    def remove(self, execution: Execution) -> None:
        run = execution.run
        if self._runs.pop(run.id, None):
            self._tenants[run.tenant] -= 1
            if not self._tenants[run.tenant]:
                del self._tenants[run.tenant]
        if run.durability is not Durability.NONE or not run.state.terminal:
            self._forget_request(run)
        if execution.on_record or not run.state.terminal:
            return
        self._kept[run.id] = Kept(run, tuple(execution.log.events))
        while len(self._kept) > self._most_kept:
            _, oldest = self._kept.popitem(last=False)
            self._forget_request(oldest.run)

    def _forget_request(self, run: Run) -> None:
        request = run.tenant, run.request_id
        if request in self._requests and self._requests[request][0] == run.id:
            del self._requests[request]

    def get(self, tenant: str, run_id: str) -> Execution | None:
        execution = self._runs.get(run_id)
        return execution if execution and execution.run.tenant == tenant else None

    def kept(self, tenant: str, run_id: str) -> Kept | None:
        kept = self._kept.get(run_id)
        return kept if kept and kept.run.tenant == tenant else None

    def roots_kept(self, tenant: str) -> list[str]:
        """Of the trees of which only memory knows a run."""
        runs = (each.run for each in self._kept.values())
        return list(dict.fromkeys(run.tree for run in runs if run.tenant == tenant))

    def tree_kept(self, tenant: str, root: str) -> list[Run]:
        """The first run of the tree first, where it is among them."""
        runs = (each.run for each in self._kept.values())
        kin = [run for run in runs if (run.tenant, run.tree) == (tenant, root)]
        return sorted(kin, key=lambda run: run.depth)

    def forget(self, tenant: str, root: str) -> list[str]:
        """Its runs that only memory knows. Returns their ids."""
        kin = self.tree_kept(tenant, root)
        for run in kin:
            del self._kept[run.id]
            self._forget_request(run)
        return [run.id for run in kin]

    def requested(self, tenant: str, request_id: str, request_hash: str) -> Execution | Run | None:
        """The run of this request id. Another request under the same id is refused."""
        if not request_id or (tenant, request_id) not in self._requests:
            return None
        run_id, seen_hash = self._requests[tenant, request_id]
        if seen_hash != request_hash:
            raise AlreadyExists(
                f"request_id {request_id!r} was used for another request; choose a new one",
                reason="REQUEST_ID_REUSED",
                request_id=request_id,
            )
        return self._runs.get(run_id) or self._kept[run_id].run

    async def drained(self, seconds: float) -> bool:
        """Whether all runs ended within so many seconds."""
        waits = [asyncio.create_task(each.ended.wait()) for each in self]
        if not waits:
            return True
        _, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()
        return not late


def _too_many(what: str, limit: int) -> Exhausted:
    return Exhausted(
        f"{what}; try again soon", reason="TOO_MANY_RUNS", retry_after=1.0, limit=str(limit)
    )
