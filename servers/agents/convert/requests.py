"""Requests about runs between the wire and the domain."""

import json
from enum import Enum
from typing import TypeAlias, TypeVar

from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import ask_pb2, run_deletion_pb2, run_pb2

from servers.agents.convert.runs import STATES, WIRE_STATES
from servers.domain.runs import (
    Decision,
    Durability,
    OnDisconnect,
    Purged,
    RunFilter,
    RunRequest,
    RunSelection,
    Verdict,
)
from servers.kernel.chat_wire import json_from, json_to, refused, time_from, time_to

E = TypeVar("E", bound=Enum)
Work: TypeAlias = pb.RunAgentRequest | pb.StreamAgentRequest | pb.ChatRequest | pb.CreateRunRequest


def bare(name: str, collection: str) -> str:
    """An id, also where it was given as a resource name ("agents/assistant")."""
    return name.removeprefix(f"{collection}/")


def request_from(wire: Work, deadline: float | None) -> RunRequest:
    return RunRequest(
        agent=bare(wire.agent, "agents"),
        query=wire.query,
        session=wire.session_id,
        request_id=wire.request_id,
        context=json_from(wire.context),
        durability=_word("durability", wire.durability, Durability),
        deadline=deadline,
        webhook=wire.webhook if isinstance(wire, pb.CreateRunRequest) else "",
    )


def run_request_to(request: RunRequest) -> pb.RunAgentRequest:
    return pb.RunAgentRequest(
        agent=request.agent,
        query=request.query,
        session_id=request.session,
        request_id=request.request_id,
        context=json_to(request.context) if request.context else None,
        durability=request.durability.value if request.durability else "",
    )


def stream_request_to(
    request: RunRequest, on_disconnect: OnDisconnect | None
) -> pb.StreamAgentRequest:
    wire = pb.StreamAgentRequest.FromString(run_request_to(request).SerializeToString())
    wire.on_disconnect = on_disconnect.value if on_disconnect else ""
    return wire


def create_request_to(request: RunRequest) -> pb.CreateRunRequest:
    wire = pb.CreateRunRequest.FromString(run_request_to(request).SerializeToString())
    wire.webhook = request.webhook
    return wire


def on_disconnect_from(wire: pb.StreamAgentRequest) -> OnDisconnect | None:
    return _word("on_disconnect", wire.on_disconnect, OnDisconnect)


def _word(field: str, said: str, words: type[E]) -> E | None:
    """A word as in a declaration ("step"), or as answers write it ("DURABILITY_STEP")."""
    if not said:
        return None
    try:
        return words(said.lower().removeprefix(f"{field}_"))
    except ValueError:
        known = ", ".join(repr(word.value) for word in words)
        raise refused(field, f"{said!r} is none of {known}") from None


def decision_from(wire: ask_pb2.ResumeRunRequest) -> Decision:
    verdict = _word("verdict", wire.verdict, Verdict)
    if verdict is None:
        raise refused("verdict", "say 'approve', 'reject' or 'result'")
    arguments = json_from(wire.arguments) if wire.HasField("arguments") else None
    if arguments is not None and verdict is not Verdict.APPROVE:
        raise refused("arguments", "only an approval has arguments")
    return Decision(
        wire.call_id,
        verdict,
        wire.reason,
        "" if arguments is None else json.dumps(arguments),
        wire.content,
        wire.is_error,
    )


def resume_to(run_id: str, decision: Decision, wait: bool) -> ask_pb2.ResumeRunRequest:
    arguments = json_to(json.loads(decision.arguments)) if decision.arguments else None
    return ask_pb2.ResumeRunRequest(
        run=run_id,
        call_id=decision.call_id,
        verdict=decision.verdict.value,
        reason=decision.reason,
        arguments=arguments,
        content=decision.content,
        is_error=decision.is_error,
        wait=wait,
    )


def filter_from(wire: run_pb2.ListRunsRequest) -> RunFilter:
    unknown = [state for state in wire.states if state not in STATES]
    if unknown:
        raise refused("states", "states to list; RUN_STATE_UNSPECIFIED is none")
    states = tuple(STATES[state] for state in wire.states)
    parent = bare(wire.parent_run_id, "runs")
    agent = bare(wire.agent, "agents")
    return RunFilter(agent, wire.session_id, states, parent, principal=wire.principal)


def filter_to(where: RunFilter, page_size: int, page_token: str) -> run_pb2.ListRunsRequest:
    return run_pb2.ListRunsRequest(
        page_size=page_size,
        page_token=page_token,
        agent=where.agent,
        session_id=where.session,
        states=[WIRE_STATES[state] for state in where.states],
        parent_run_id=where.parent,
        principal=where.principal,
    )


def selection_from(wire: run_deletion_pb2.PurgeRunsRequest) -> RunSelection:
    before = time_from(wire.ended_before) if wire.HasField("ended_before") else None
    agent = bare(wire.agent, "agents")
    return RunSelection(wire.principal, wire.session_id, agent, before, wire.all)


def selection_to(
    which: RunSelection, force: bool, validate_only: bool
) -> run_deletion_pb2.PurgeRunsRequest:
    before = which.ended_before
    return run_deletion_pb2.PurgeRunsRequest(
        principal=which.principal,
        session_id=which.session,
        agent=which.agent,
        ended_before=None if before is None else time_to(before),
        all=which.all,
        force=force,
        validate_only=validate_only,
    )


def purged_to(purged: Purged) -> run_deletion_pb2.PurgeRunsResponse:
    return run_deletion_pb2.PurgeRunsResponse(deleted_runs=purged.runs, left_runs=purged.left)


def purged_from(wire: run_deletion_pb2.PurgeRunsResponse) -> Purged:
    return Purged(wire.deleted_runs, wire.left_runs)
