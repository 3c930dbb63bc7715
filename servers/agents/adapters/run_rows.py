"""What every store of runs writes beside the run's body: the values that it searches by,
and the errors that all of them raise in the same words."""

from typing import Final, NamedTuple

from servers.agents.adapters.run_codec import run_body
from servers.domain.runs import Run, RunFilter, RunState
from servers.kernel.errors import AlreadyExists, Conflict, NotFound, NotReady

WAITING: Final = tuple(state.value for state in RunState if state.waiting)


class RunRow(NamedTuple):
    """The columns that change with the run, in the order in which they are written."""

    tenant: str
    agent: str
    session: str
    state: str
    created_at: float
    parent: str
    root: str  # of the first run of a tree its own id
    wake_at: float | None  # when a waiting run goes on by itself
    ended_at: float | None  # None: it has not ended
    agent_digest: str
    principal: str
    body: bytes


def run_row(run: Run) -> RunRow:
    return RunRow(
        run.tenant,
        run.agent,
        run.session,
        run.state.value,
        run.created_at,
        run.parent,
        run.tree,
        _wake_at(run),
        _ended_at(run),
        run.agent_digest,
        run.principal,
        run_body(run),
    )


def _wake_at(run: Run) -> float | None:
    if not run.state.waiting:
        return None
    times = [ask.until for ask in run.waiting if ask.until is not None]
    # One that waits for a time without one would wait for ever.
    return min(times, default=0.0 if run.state is RunState.WAITING_TIMER else None)


def _ended_at(run: Run) -> float | None:
    if not run.state.terminal:
        return None
    return run.created_at if run.ended_at is None else run.ended_at


def tells_its_end(run: Run) -> bool:
    return run.state.terminal and bool(run.webhook)


def let_go(run: Run) -> bool:
    """Whether no process works on it from here on."""
    return run.state.waiting or run.state.terminal


def only_live(where: RunFilter) -> bool:
    """Whether it looks for runs that have not ended, and for no others."""
    return bool(where.states) and not any(state.terminal for state in where.states)


def fenced(run_id: str) -> Conflict:
    return Conflict(
        f"the log of run {run_id!r} has gone on without this owner: stop the run here",
        reason="FENCED",
        run_id=run_id,
    )


def no_run(run_id: str) -> NotFound:
    return NotFound(f"no run has the id {run_id!r}", run_id=run_id)


def not_waiting(run_id: str, state: str) -> NotReady:
    return NotReady(
        f"run {run_id!r} does not wait for anything (it is {state}), or somebody else was faster",
        reason="RUN_NOT_WAITING",
        run_id=run_id,
        state=state,
    )


def request_id_reused(request_id: str) -> AlreadyExists:
    return AlreadyExists(
        f"the request id {request_id!r} was used for another request: choose a new one",
        reason="REQUEST_ID_REUSED",
        request_id=request_id,
    )
