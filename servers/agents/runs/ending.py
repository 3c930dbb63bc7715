"""How a run ends: each way as a value, what stays of its answer, and what goes on record."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from servers.agents.guardrails import Rules
from servers.agents.patterns.ports import Answer
from servers.agents.runs.guarding import failure_told
from servers.agents.runs.plan import End, Plan
from servers.agents.runs.work import Work
from servers.domain.chat import Role, says
from servers.domain.memory import SessionKey
from servers.domain.run_events import Noticed
from servers.domain.runs import Block, Run, RunState, StopReason
from servers.domain.sources import sources_of
from servers.kernel.errors import AstromeshError, Internal
from servers.kernel.telemetry import span

_log = structlog.stdlib.get_logger("astromesh.runs")

_PATIENCE: Final = 15.0  # seconds: a store that was started again is there by then


def answered(answer: Answer) -> End:
    end = RunState.COMPLETED, answer.stop_reason, answer.text
    return End(*end, answered_by=answer.answered_by)


def stopped_by(block: Block) -> End:
    return End(RunState.BLOCKED, StopReason.GUARDRAIL, block.message, block=block)


def broken(work: Work, rules: Rules, error: Exception) -> End:
    if not isinstance(error, AstromeshError):
        _log.exception("run broke", error=repr(error))
        error = Internal("the run broke on a fault of the mesh; its log has the details")
    return End(RunState.FAILED, StopReason.ERROR, work.said, failure_told(rules, error))


def ended_by(end: End, run: Run, work: Work) -> Run:
    """The run as it has ended."""
    for used in work.take_unbilled():
        work.tally.add_used(used)
    return replace(
        run,
        answer=end.answer,
        usage=work.tally.models,
        iterations=work.iterations,
        waiting=(),
        state=end.state,
        stop_reason=end.stop_reason,
        failure=end.failure,
        answered_by=end.answered_by,
        block=end.block,
        sources=sources_of(end.answer, work.all_sources),
        ended_at=work.now(),
    )


def unwritten(ended: Run, failed: End) -> Run:
    """One whose end could not be written."""
    return replace(
        ended, state=failed.state, stop_reason=failed.stop_reason, failure=failed.failure
    )


def come_to(answer: Answer, run: Run, work: Work) -> Run:
    """The run as it is before its answer is kept: its stop reason says that it can end in no
    other way any more."""
    for used in work.take_unbilled():
        work.tally.add_used(used)
    return replace(
        run,
        answer=answer.text,
        stop_reason=answer.stop_reason,
        answered_by=answer.answered_by,
        usage=work.tally.models,
        iterations=work.iterations,
    )


def found_again(run: Run, work: Work) -> Answer | None:
    """The answer that a run had come to before it stopped; nothing of it is done again."""
    if run.stop_reason is None:
        return None
    for used in run.usage:
        work.tally.add_used(used)
    work.iterations = run.iterations
    return Answer(run.answer, run.stop_reason, run.answered_by)


async def keep(answer: Answer, run: Run, plan: Plan, work: Work) -> None:
    """Both turns or neither. That they can't be kept doesn't take the answer away."""
    key = SessionKey(run.tenant, run.agent, run.session)
    turns = (says(Role.USER, run.query), says(Role.ASSISTANT, answer.text))
    try:
        async with asyncio.timeout(_PATIENCE):  # nobody can cancel it any more
            if memory := plan.memory:
                with span("update_memory"):
                    await memory.keep(key, turns, run.id, work.account)
            if recalling := plan.recalling:
                await recalling.leave(work, answer.text)
        return
    except AstromeshError as error:
        said = error.message
    except TimeoutError:
        said = "the memory service doesn't answer"
    _log.warning("not kept in memory", error=said)
    work.journal.emit(Noticed("MEMORY_NOT_SAVED", said))
