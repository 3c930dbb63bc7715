"""Runs and their events between the wire and the domain. Agents are in `convert_agent`."""

from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias, TypeVar, assert_never

from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import run_pb2
from astromesh.tools.v1 import tool_service_pb2

from servers.agents.runs.failure import error_of, failure_of
from servers.domain.chat import (
    Finish,
    ModelUsage,
)
from servers.domain.runs import (
    Completed,
    Durability,
    Failure,
    ModelReplied,
    Noticed,
    OnDisconnect,
    Payload,
    ReasoningDelta,
    Restarted,
    Run,
    RunEvent,
    RunFilter,
    RunPage,
    RunRequest,
    RunState,
    StateChanged,
    StopReason,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from servers.domain.tools import Outcome
from servers.kernel.chat_wire import (
    finish_reason_from,
    finish_reason_to,
    json_from,
    json_to,
    message_from,
    message_to,
    refused,
    time_from,
    time_to,
    usage_from,
    usage_to,
)
from servers.kernel.details import from_status, to_status

_STATES = {
    run_pb2.RUN_STATE_QUEUED: RunState.QUEUED,
    run_pb2.RUN_STATE_RUNNING: RunState.RUNNING,
    run_pb2.RUN_STATE_COMPLETED: RunState.COMPLETED,
    run_pb2.RUN_STATE_FAILED: RunState.FAILED,
    run_pb2.RUN_STATE_CANCELLED: RunState.CANCELLED,
    run_pb2.RUN_STATE_TIMED_OUT: RunState.TIMED_OUT,
}
_WIRE_STATES = {state: number for number, state in _STATES.items()}
_STOPS = {
    run_pb2.STOP_REASON_ANSWER: StopReason.ANSWER,
    run_pb2.STOP_REASON_MAX_ITERATIONS: StopReason.MAX_ITERATIONS,
    run_pb2.STOP_REASON_MAX_TOKENS: StopReason.MAX_TOKENS,
    run_pb2.STOP_REASON_CONTENT_FILTER: StopReason.CONTENT_FILTER,
    run_pb2.STOP_REASON_DEADLINE: StopReason.DEADLINE,
    run_pb2.STOP_REASON_CANCELLED: StopReason.CANCELLED,
    run_pb2.STOP_REASON_ERROR: StopReason.ERROR,
}
_WIRE_STOPS = {reason: number for number, reason in _STOPS.items()}
_DURABILITIES = {
    run_pb2.DURABILITY_NONE: Durability.NONE,
    run_pb2.DURABILITY_EXIT: Durability.EXIT,
    run_pb2.DURABILITY_STEP: Durability.STEP,
}
_WIRE_DURABILITIES = {durability: number for number, durability in _DURABILITIES.items()}
_OUTCOMES = {
    tool_service_pb2.TOOL_OUTCOME_OK: Outcome.OK,
    tool_service_pb2.TOOL_OUTCOME_ERROR: Outcome.ERROR,
    tool_service_pb2.TOOL_OUTCOME_TIMEOUT: Outcome.TIMEOUT,
    tool_service_pb2.TOOL_OUTCOME_UNKNOWN: Outcome.UNKNOWN,
}
_WIRE_OUTCOMES = {outcome: number for number, outcome in _OUTCOMES.items()}

E = TypeVar("E", bound=Enum)
Work: TypeAlias = pb.RunAgentRequest | pb.StreamAgentRequest | pb.ChatRequest | pb.CreateRunRequest


def bare(name: str, collection: str) -> str:
    """An id, also where it was given as a resource name ("agents/assistant")."""
    return name.removeprefix(f"{collection}/")


# -- requests ------------------------------------------------------------------------------


def request_from(wire: Work, deadline: float | None) -> RunRequest:
    return RunRequest(
        agent=bare(wire.agent, "agents"),
        query=wire.query,
        session=wire.session_id,
        request_id=wire.request_id,
        context=json_from(wire.context),
        durability=_word("durability", wire.durability, Durability),
        deadline=deadline,
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
    return pb.CreateRunRequest.FromString(run_request_to(request).SerializeToString())


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


def filter_from(wire: pb.ListRunsRequest) -> RunFilter:
    unknown = [state for state in wire.states if state not in _STATES]
    if unknown:
        raise refused("states", "states to list; RUN_STATE_UNSPECIFIED is none")
    states = tuple(_STATES[state] for state in wire.states)
    return RunFilter(bare(wire.agent, "agents"), wire.session_id, states)


def filter_to(where: RunFilter, page_size: int, page_token: str) -> pb.ListRunsRequest:
    return pb.ListRunsRequest(
        page_size=page_size,
        page_token=page_token,
        agent=where.agent,
        session_id=where.session,
        states=[_WIRE_STATES[state] for state in where.states],
    )


# -- runs ----------------------------------------------------------------------------------


def run_to(run: Run) -> run_pb2.Run:
    return run_pb2.Run(
        run_id=run.id,
        agent=run.agent,
        agent_version=run.agent_version,
        session_id=run.session,
        request_id=run.request_id,
        state=_WIRE_STATES[run.state],
        stop_reason=_WIRE_STOPS[run.stop_reason]
        if run.stop_reason
        else run_pb2.STOP_REASON_UNSPECIFIED,
        query=run.query,
        answer=run.answer,
        usage=usage_to(run.total),
        model_usage=model_usage_to(run.usage),
        iterations=run.iterations,
        error=to_status(error_of(run.failure)) if run.failure else None,
        durability=_WIRE_DURABILITIES[run.durability],
        attempt=run.attempt,
        create_time=time_to(run.created_at),
        start_time=time_to(run.started_at) if run.started_at is not None else None,
        end_time=time_to(run.ended_at) if run.ended_at is not None else None,
        context=json_to(run.context) if run.context else None,
    )


def run_from(wire: run_pb2.Run, tenant: str) -> Run:
    return Run(
        id=wire.run_id,
        tenant=tenant,
        agent=wire.agent,
        agent_version=wire.agent_version,
        session=wire.session_id,
        state=_STATES[wire.state],
        query=wire.query,
        durability=_DURABILITIES.get(wire.durability, Durability.STEP),
        request_id=wire.request_id,
        created_at=time_from(wire.create_time),
        started_at=time_from(wire.start_time) if wire.HasField("start_time") else None,
        ended_at=time_from(wire.end_time) if wire.HasField("end_time") else None,
        stop_reason=_STOPS.get(wire.stop_reason),
        answer=wire.answer,
        usage=model_usage_from(wire.model_usage),
        iterations=wire.iterations,
        failure=_failure_from(wire) if wire.HasField("error") else None,
        context=json_from(wire.context),
        attempt=wire.attempt,
    )


def _failure_from(wire: run_pb2.Run) -> Failure | None:
    error = from_status(wire.error)
    return failure_of(error) if error else None


def runs_to(page: RunPage) -> pb.ListRunsResponse:
    return pb.ListRunsResponse(
        runs=[run_to(run) for run in page.runs], next_page_token=page.next_page_token
    )


def runs_from(wire: pb.ListRunsResponse, tenant: str) -> RunPage:
    return RunPage(tuple(run_from(run, tenant) for run in wire.runs), wire.next_page_token)


def model_usage_to(models: Iterable[ModelUsage]) -> list[run_pb2.ModelUsage]:
    return [
        run_pb2.ModelUsage(
            provider=each.provider,
            model=each.model,
            calls=each.calls,
            usage=usage_to(each.usage),
        )
        for each in models
    ]


def model_usage_from(wire: Iterable[run_pb2.ModelUsage]) -> tuple[ModelUsage, ...]:
    return tuple(
        ModelUsage(each.provider, each.model, each.calls, usage_from(each.usage)) for each in wire
    )


# -- events --------------------------------------------------------------------------------


def event_to(event: RunEvent) -> run_pb2.RunEvent:
    wire = run_pb2.RunEvent(run_id=event.run_id, sequence=event.sequence, time=time_to(event.time))
    _put(event.payload, wire)
    return wire


def _put(payload: Payload, wire: run_pb2.RunEvent) -> None:
    match payload:
        case TextDelta(text, call):
            wire.text_delta.text, wire.text_delta.model_call = text, call
        case ReasoningDelta(text, call):
            wire.reasoning_delta.text, wire.reasoning_delta.model_call = text, call
        case StateChanged(state, reason):
            wire.state_change.state, wire.state_change.reason = _WIRE_STATES[state], reason
        case ModelReplied():
            wire.model_reply.CopyFrom(_reply_to(payload))
        case ToolCalled(call_id, name, arguments, model_call_id):
            wire.tool_call.CopyFrom(
                run_pb2.ToolCallStarted(
                    call_id=call_id, name=name, arguments=arguments, model_call_id=model_call_id
                )
            )
        case ToolReturned():
            wire.tool_result.CopyFrom(_result_to(payload))
        case UsageReported(models):
            total = Run("", "", "", "", "", RunState.RUNNING, "", usage=models).total
            wire.usage.total.CopyFrom(usage_to(total))
            wire.usage.models.extend(model_usage_to(models))
        case Noticed(reason, message):
            wire.notice.reason, wire.notice.message = reason, message
        case Restarted(attempt, discard_after):
            wire.restarted.attempt, wire.restarted.discard_after = attempt, discard_after
        case Completed(run):
            wire.completed.CopyFrom(run_to(run))
        case _:
            assert_never(payload)


def event_from(wire: run_pb2.RunEvent, tenant: str) -> RunEvent | None:
    """None for a payload that only a newer mesh knows."""
    payload = _payload_from(wire, tenant)
    if payload is None:
        return None
    return RunEvent(wire.run_id, wire.sequence, time_from(wire.time), payload)


def _payload_from(wire: run_pb2.RunEvent, tenant: str) -> Payload | None:
    match wire.WhichOneof("payload"):
        case "text_delta":
            return TextDelta(wire.text_delta.text, wire.text_delta.model_call)
        case "reasoning_delta":
            return ReasoningDelta(wire.reasoning_delta.text, wire.reasoning_delta.model_call)
        case "state_change":
            return StateChanged(_STATES[wire.state_change.state], wire.state_change.reason)
        case "model_reply":
            return _reply_from(wire.model_reply)
        case "tool_call":
            call = wire.tool_call
            return ToolCalled(call.call_id, call.name, call.arguments, call.model_call_id)
        case "tool_result":
            return _result_from(wire.tool_result)
        case "usage":
            return UsageReported(model_usage_from(wire.usage.models))
        case "notice":
            return Noticed(wire.notice.reason, wire.notice.message)
        case "restarted":
            return Restarted(wire.restarted.attempt, wire.restarted.discard_after)
        case "completed":
            return Completed(run_from(wire.completed, tenant))
    return None


def _reply_to(reply: ModelReplied) -> run_pb2.ModelReply:
    return run_pb2.ModelReply(
        model_call=reply.model_call,
        message=message_to(reply.message),
        finish_reason=finish_reason_to(reply.finish.reason),
        usage=usage_to(reply.finish.usage),
        provider=reply.finish.provider,
        model=reply.finish.model,
        duration_seconds=reply.duration,
        emulated_tools=reply.finish.emulated,
        cached=reply.finish.cached,
    )


def _reply_from(wire: run_pb2.ModelReply) -> ModelReplied:
    message = message_from(wire.message)
    finish = Finish(
        finish_reason_from(wire.finish_reason),
        message.tool_calls,
        usage_from(wire.usage),
        wire.provider,
        wire.model,
        emulated=wire.emulated_tools,
        cached=wire.cached,
    )
    return ModelReplied(wire.model_call, message, finish, wire.duration_seconds)


def _result_to(result: ToolReturned) -> run_pb2.ToolCallEnded:
    return run_pb2.ToolCallEnded(
        call_id=result.call_id,
        name=result.name,
        content=result.content,
        outcome=_WIRE_OUTCOMES[result.outcome],
        truncated_tokens=result.truncated_tokens,
        duration_seconds=result.duration,
    )


def _result_from(wire: run_pb2.ToolCallEnded) -> ToolReturned:
    return ToolReturned(
        wire.call_id,
        wire.name,
        wire.content,
        _OUTCOMES.get(wire.outcome, Outcome.UNKNOWN),
        wire.truncated_tokens,
        wire.duration_seconds,
    )
