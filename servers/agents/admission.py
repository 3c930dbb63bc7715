"""Checks a request for a run and makes the run of it. No I/O."""

import hashlib
import json
from enum import Enum

from servers.agents.manifest import Agent
from servers.domain.caller import Caller
from servers.domain.runs import Durability, Run, RunRequest, RunState
from servers.kernel.errors import InvalidInput, OutOfTime, Violation

MAX_QUERY = 1_000_000  # characters
MAX_SESSION = 256
MAX_REQUEST_ID = 128


def validated(request: RunRequest) -> RunRequest:
    """The request, or an error that names every field that is wrong."""
    if request.deadline is not None and request.deadline <= 0:
        raise OutOfTime("the deadline had passed before the run began")
    wrong = tuple(_violations(request))
    if wrong:
        message = "; ".join(f"{each.field}: {each.description}" for each in wrong)
        raise InvalidInput(message, reason="INVALID_REQUEST", violations=wrong)
    return request


def _violations(request: RunRequest) -> list[Violation]:
    wrong = []
    if not request.agent:
        wrong.append(Violation("agent", "name the agent to run"))
    if not request.query.strip():
        wrong.append(Violation("query", "say what to do: the query is empty"))
    if len(request.query) > MAX_QUERY:
        wrong.append(Violation("query", f"at most {MAX_QUERY} characters"))
    for field, value, most in (
        ("session_id", request.session, MAX_SESSION),
        ("request_id", request.request_id, MAX_REQUEST_ID),
    ):
        if len(value) > most or not (value.isprintable()):
            wrong.append(Violation(field, f"up to {most} printable characters"))
    return wrong


def request_hash(request: RunRequest) -> str:
    """The same for the same work. The deadline is the transport's, not part of the work."""
    if not request.request_id:
        return ""
    work = [
        request.agent,
        request.query,
        request.session,
        request.context,
        request.durability.value if request.durability else "",
        *([request.webhook] if request.webhook else ()),
    ]
    canonical = json.dumps(work, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def new_run(
    caller: Caller, agent: Agent, request: RunRequest, run_id: str, now: float, digest: str
) -> Run:
    """`digest`: what the agent's declaration is found by."""
    parent = request.parent
    return Run(
        id=run_id,
        tenant=caller.tenant,
        agent=agent.name,
        agent_version=agent.metadata.version,
        session=request.session or run_id,
        state=RunState.RUNNING,
        query=request.query,
        durability=request.durability or agent.durability,
        request_id=request.request_id,
        created_at=now,
        started_at=now,
        context=request.context,
        webhook=request.webhook,
        agent_digest=digest,
        principal=caller.principal,
        parent=parent.run_id if parent else "",
        parent_call=parent.call_id if parent else "",
        root=parent.root if parent else "",
        depth=parent.depth if parent else 0,
    )


class Told(Enum):
    """When the caller hears of a run, after which it must not be forgotten."""

    AT_THE_END = 1
    AT_ONCE = 2
    IN_BACKGROUND = 3  # and then nobody waits for it


def to_be_admitted(run: Run, told: Told) -> bool:
    """Whether the run is put on record before its caller hears of it."""
    match run.durability:
        case Durability.STEP:
            return told is not Told.AT_THE_END or bool(run.request_id)
        case Durability.EXIT:
            return told is Told.IN_BACKGROUND
    return False
