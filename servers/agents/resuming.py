"""Goes on with runs whose process stopped, or says why they can't go on."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from servers.agents.catalogue import Catalogue
from servers.agents.planning import Planner
from servers.agents.ports import RunStore
from servers.agents.runs.execution import Plan
from servers.agents.runs.failure import failure_of
from servers.agents.runs.journal import Journal, first_sequence
from servers.agents.runs.log import RunLog
from servers.domain.caller import Caller
from servers.domain.runs import Durability, Run, RunEvent, RunRequest, RunState, StopReason
from servers.kernel.errors import AstromeshError, NotReady, Unavailable

_log = structlog.stdlib.get_logger("astromesh.agents")

_TRIES, _PAUSE = 60, 0.5  # seconds; half a minute in all


async def plan_again(run: Run, catalogue: Catalogue, planner: Planner) -> Plan:
    """The plan with which the run goes on. Raises what keeps it from going on."""
    if run.durability is not Durability.STEP:
        raise NotReady(
            "the process stopped while the run worked, and at durability "
            f"{run.durability.value!r} nothing of what it had done is on record",
            reason="RUN_LOST",
        )
    agent = await catalogue.runnable(run.tenant, run.agent)
    if agent.metadata.version != run.agent_version:
        raise NotReady(
            f"the run began with version {run.agent_version!r} of agent {run.agent!r}, "
            f"which is {agent.metadata.version!r} now",
            reason="AGENT_CHANGED",
        )
    request = RunRequest(run.agent, run.query, run.session, context=run.context)
    for _ in range(_TRIES):
        try:
            return await planner.plan(Caller(run.tenant), agent, request)
        except Unavailable as error:  # the process of another service comes up later
            _log.warning("waiting for a service", error=error.message)
            await asyncio.sleep(_PAUSE)
    return await planner.plan(Caller(run.tenant), agent, request)


async def give_up(
    run: Run,
    past: Sequence[RunEvent],
    error: AstromeshError,
    store: RunStore,
    now: Callable[[], float],
) -> None:
    """End a run that can't go on."""
    ended = replace(
        run,
        state=RunState.FAILED,
        stop_reason=StopReason.ERROR,
        failure=failure_of(error),
        ended_at=now(),
    )
    # Readers may have seen events that are not on record: the end must come after those.
    log = RunLog(run.id, now, past, first_sequence(run, past))
    await Journal(log, store, Durability.STEP, on_record=True).end(ended, "")
    _log.warning("run could not go on", run_id=run.id, error=error.message)
