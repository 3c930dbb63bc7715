"""The line of a session as the store knows it: runs that wait without a process, and those
that other processes work on. `sessions` keeps the order within this one."""

from collections.abc import Awaitable, Callable, Sequence

from servers.agents.ports import RunStore
from servers.agents.runs.record.journal import Journal
from servers.agents.runs.sessions import Sessions
from servers.domain.memory import SessionKey
from servers.domain.runs import Run

_LOOK_AGAIN = 1.0  # seconds


class Line:
    def __init__(
        self,
        store: RunStore,
        sessions: Sessions,
        cancel: Callable[[str, str, str], Awaitable[object]],
    ) -> None:
        """`cancel(tenant, run id, reason)` ends a run, whoever works on it."""
        self._store = store
        self._sessions = sessions
        self._cancel = cancel

    async def taken(self, tenant: str, agent: str, session: str) -> bool:
        """Whether a run has the session that is not at work in this process."""
        if not session or self._sessions.busy(SessionKey(tenant, agent, session)):
            return False
        return bool(await self._store.line(tenant, agent, session))

    async def turn(self, run: Run, policy: str, journal: Journal) -> None:
        """Wait until all earlier runs of the session have ended; this one is the first of those
        that stand in line in this process."""
        if self._its_own(run) or not journal.keeps:
            return
        await journal.on_record()  # those who come later must see it
        while earlier := await self._earlier(run):
            if policy == "replace":
                for run_id in earlier:
                    await self._cancel(run.tenant, run_id, "another run of the session replaced it")
                continue
            last = await self._store.last_sequence(earlier[0])
            if earlier[0] in await self._earlier(run):  # it had not ended by then
                await self._store.changed(earlier[0], last, _LOOK_AGAIN)

    async def _earlier(self, run: Run) -> Sequence[str]:
        line = await self._store.line(run.tenant, run.agent, run.session)
        here = self._sessions.members(SessionKey(run.tenant, run.agent, run.session))
        before = line[: line.index(run.id)] if run.id in line else line
        return [run_id for run_id in before if run_id not in here]

    def _its_own(self, run: Run) -> bool:
        """A session that has the name of its first run; nobody else knows that name yet."""
        return run.session == run.id
