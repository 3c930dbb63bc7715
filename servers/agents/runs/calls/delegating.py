"""Tool calls that are runs of other agents: what they are asked, and what comes of them."""

import json

from servers.agents.runs.means import ToolLimits
from servers.agents.runs.record.failure import error_of
from servers.agents.runs.work import Errand, Work
from servers.domain.chat import Json
from servers.domain.run_events import SubRunStarted, ToolCalled, ToolReturned
from servers.domain.runs import Ask, AskKind, Run, RunState
from servers.domain.tools import Outcome
from servers.kernel.errors import AstromeshError
from servers.kernel.json_schema import JsonSchema
from servers.kernel.result_budget import cut

LOOK_AGAIN = 60.0  # seconds after which a run looks at the sub-agent's run it waits for

PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "description": "the whole task, with all that the agent has to know for it",
        }
    },
    "required": ["query"],
    "additionalProperties": False,
}


async def delegated(work: Work, call: ToolCalled, limits: ToolLimits) -> Run | ToolReturned:
    """The run that a call has become, once it has ended or waits; or why there is none."""
    try:
        query = _query(call.arguments, limits.parameters or PARAMETERS)
    except ValueError as error:
        return ToolReturned(call.call_id, call.name, str(error), Outcome.ERROR)
    known = work.replay.sub_run(call.call_id)

    def begun(run: Run) -> None:
        work.delegating = True
        if known is None:
            work.journal.emit(SubRunStarted(call.call_id, run.id, run.agent))
            work.journal.commit_soon()

    known_id = known.run_id if known else ""
    errand = Errand(call.call_id, call.name, limits.agent, query, limits.timeout, known_id)
    await work.journal.commit()  # else a crash could leave the errand without its parent
    try:
        return await work.sub_runs.done(work.caller, work.run, errand, begun)
    except AstromeshError as error:
        if error.reason == "NOT_DURABLE":  # no model can help that
            raise
        said = f"The agent {limits.agent!r} could not start: {error.message}"
        return ToolReturned(call.call_id, call.name, said, Outcome.ERROR)


def waits_for(call: ToolCalled, run: Run, now: float) -> Ask:
    """What a run waits for whose sub-agent's run waits."""
    kind, until = AskKind.RUN, now + LOOK_AGAIN
    return Ask(call.call_id, kind, call.name, call.arguments, until=until, run_id=run.id)


def returned(call: ToolCalled, run: Run, limits: ToolLimits) -> ToolReturned:
    """An ended run as the result of the call."""
    done = run.state is RunState.COMPLETED
    content = run.answer if done else f"The agent {run.agent!r} gave no answer: {_why(run)}"
    missing = 0
    if limits.max_result_tokens is not None:
        content, missing = cut(content, limits.max_result_tokens)
    took = (run.ended_at or run.created_at) - (run.started_at or run.created_at)
    outcome = Outcome.OK if done else Outcome.ERROR
    return ToolReturned(call.call_id, call.name, content, outcome, missing, max(0.0, took))


def _why(run: Run) -> str:
    if run.failure:
        return f"it failed: {error_of(run.failure).message}"
    if run.block:
        return f"a guardrail blocked it: {run.block.message or run.block.rule}"
    return {
        RunState.TIMED_OUT: "its time was over.",
        RunState.CANCELLED: "somebody cancelled it.",
    }.get(run.state, f"it is {run.state.value}.")


def _query(arguments: str, parameters: Json) -> str:
    """What the agent is asked: the query, or whatever else its tool takes, as JSON.

    Raises ValueError with what the model is to know.
    """
    try:
        said = json.loads(arguments or "{}")
    except ValueError as error:
        raise ValueError(f"The arguments are no JSON: {error}") from None
    if not isinstance(said, dict):
        raise ValueError("The arguments are no JSON object.")
    if faults := JsonSchema(parameters).faults(said):
        raise ValueError(f"The arguments don't fit: {'; '.join(faults)}")
    query = said.get("query")
    return query if isinstance(query, str) and len(said) == 1 else json.dumps(said)
