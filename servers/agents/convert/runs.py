"""Runs between the wire and the domain."""

from collections.abc import Iterable

from astromesh.agents.v1 import ask_pb2, run_pb2, source_pb2
from google.protobuf import json_format
from google.rpc import status_pb2

from servers.agents.runs.record.failure import error_of, failure_of
from servers.domain.chat import Json, ModelUsage
from servers.domain.runs import (
    Ask,
    AskKind,
    Block,
    Direction,
    Durability,
    Failure,
    Run,
    RunPage,
    RunState,
    StopReason,
)
from servers.domain.sources import Source
from servers.kernel.chat_wire import json_from, json_to, time_from, time_to, usage_from, usage_to
from servers.kernel.details import from_status, to_status

STATES = {
    run_pb2.RUN_STATE_QUEUED: RunState.QUEUED,
    run_pb2.RUN_STATE_RUNNING: RunState.RUNNING,
    run_pb2.RUN_STATE_COMPLETED: RunState.COMPLETED,
    run_pb2.RUN_STATE_FAILED: RunState.FAILED,
    run_pb2.RUN_STATE_CANCELLED: RunState.CANCELLED,
    run_pb2.RUN_STATE_TIMED_OUT: RunState.TIMED_OUT,
    run_pb2.RUN_STATE_BLOCKED: RunState.BLOCKED,
    run_pb2.RUN_STATE_WAITING_APPROVAL: RunState.WAITING_APPROVAL,
    run_pb2.RUN_STATE_WAITING_INPUT: RunState.WAITING_INPUT,
    run_pb2.RUN_STATE_WAITING_TIMER: RunState.WAITING_TIMER,
    run_pb2.RUN_STATE_WAITING_RUN: RunState.WAITING_RUN,
}
WIRE_STATES = {state: number for number, state in STATES.items()}
_STOPS = {
    run_pb2.STOP_REASON_ANSWER: StopReason.ANSWER,
    run_pb2.STOP_REASON_MAX_ITERATIONS: StopReason.MAX_ITERATIONS,
    run_pb2.STOP_REASON_MAX_TOKENS: StopReason.MAX_TOKENS,
    run_pb2.STOP_REASON_CONTENT_FILTER: StopReason.CONTENT_FILTER,
    run_pb2.STOP_REASON_DEADLINE: StopReason.DEADLINE,
    run_pb2.STOP_REASON_CANCELLED: StopReason.CANCELLED,
    run_pb2.STOP_REASON_ERROR: StopReason.ERROR,
    run_pb2.STOP_REASON_GUARDRAIL: StopReason.GUARDRAIL,
}
_WIRE_STOPS = {reason: number for number, reason in _STOPS.items()}
_DURABILITIES = {
    run_pb2.DURABILITY_NONE: Durability.NONE,
    run_pb2.DURABILITY_EXIT: Durability.EXIT,
    run_pb2.DURABILITY_STEP: Durability.STEP,
}
_WIRE_DURABILITIES = {durability: number for number, durability in _DURABILITIES.items()}
_ASKS = {
    ask_pb2.ASK_KIND_APPROVAL: AskKind.APPROVAL,
    ask_pb2.ASK_KIND_INPUT: AskKind.INPUT,
    ask_pb2.ASK_KIND_TIMER: AskKind.TIMER,
    ask_pb2.ASK_KIND_RUN: AskKind.RUN,
}
_WIRE_ASKS = {kind: number for number, kind in _ASKS.items()}
DIRECTIONS = {
    run_pb2.GUARD_DIRECTION_INPUT: Direction.INPUT,
    run_pb2.GUARD_DIRECTION_OUTPUT: Direction.OUTPUT,
    run_pb2.GUARD_DIRECTION_TOOL_ARGUMENTS: Direction.TOOL_ARGUMENTS,
    run_pb2.GUARD_DIRECTION_TOOL_RESULT: Direction.TOOL_RESULT,
}
WIRE_DIRECTIONS = {direction: number for number, direction in DIRECTIONS.items()}


def run_to(run: Run) -> run_pb2.Run:
    return run_pb2.Run(
        run_id=run.id,
        agent=run.agent,
        agent_version=run.agent_version,
        session_id=run.session,
        request_id=run.request_id,
        state=WIRE_STATES[run.state],
        stop_reason=_WIRE_STOPS[run.stop_reason]
        if run.stop_reason and run.state.terminal
        else run_pb2.STOP_REASON_UNSPECIFIED,
        query=run.query,
        answer=run.answer,
        usage=usage_to(run.total),
        model_usage=model_usage_to(run.usage),
        iterations=run.iterations,
        error=failure_to(run.failure) if run.failure else None,
        durability=_WIRE_DURABILITIES[run.durability],
        attempt=run.attempt,
        create_time=time_to(run.created_at),
        start_time=time_to(run.started_at) if run.started_at is not None else None,
        end_time=time_to(run.ended_at) if run.ended_at is not None else None,
        context=json_to(run.context) if run.context else None,
        parent_run_id=run.parent,
        parent_call_id=run.parent_call,
        root_run_id=run.root,
        waiting=[ask_to(ask) for ask in run.waiting],
        block=_block_to(run.block) if run.block else None,
        answered_by=run.answered_by,
        webhook=run.webhook,
        principal=run.principal,
        sources=[source_to(each) for each in run.sources],
    )


def run_json(run: Run) -> Json:
    """As REST answers it."""
    return json_format.MessageToDict(run_to(run), preserving_proto_field_name=True)


def run_from(wire: run_pb2.Run, tenant: str) -> Run:
    return Run(
        id=wire.run_id,
        tenant=tenant,
        agent=wire.agent,
        agent_version=wire.agent_version,
        session=wire.session_id,
        state=STATES[wire.state],
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
        failure=failure_from(wire.error) if wire.HasField("error") else None,
        context=json_from(wire.context),
        attempt=wire.attempt,
        parent=wire.parent_run_id,
        parent_call=wire.parent_call_id,
        root=wire.root_run_id,
        waiting=tuple(ask_from(ask) for ask in wire.waiting),
        block=_block_from(wire.block) if wire.HasField("block") else None,
        answered_by=wire.answered_by,
        webhook=wire.webhook,
        principal=wire.principal,
        sources=tuple(source_from(each) for each in wire.sources),
    )


def source_to(source: Source) -> source_pb2.Source:
    return source_pb2.Source(
        number=source.number,
        document=source.document,
        title=source.title,
        uri=source.uri,
        start=source.start,
        end=source.end,
        score=source.score,
        cited=source.cited,
    )


def source_from(wire: source_pb2.Source) -> Source:
    passage = wire.number, wire.document, wire.title, wire.uri, wire.start, wire.end, wire.score
    return Source(*passage, wire.cited)


def failure_to(failure: Failure) -> status_pb2.Status:
    return to_status(error_of(failure))


def failure_from(wire: status_pb2.Status) -> Failure | None:
    error = from_status(wire)
    return failure_of(error) if error else None


def ask_to(ask: Ask) -> ask_pb2.Ask:
    return ask_pb2.Ask(
        call_id=ask.call_id,
        kind=_WIRE_ASKS[ask.kind],
        tool=ask.tool,
        arguments=ask.arguments,
        editable=ask.editable,
        principals=ask.principals,
        until=time_to(ask.until) if ask.until is not None else None,
        run_id=ask.run_id,
    )


def ask_from(wire: ask_pb2.Ask) -> Ask:
    return Ask(
        wire.call_id,
        _ASKS[wire.kind],
        wire.tool,
        wire.arguments,
        wire.editable,
        tuple(wire.principals),
        time_from(wire.until) if wire.HasField("until") else None,
        wire.run_id,
    )


def _block_to(block: Block) -> run_pb2.Block:
    direction = WIRE_DIRECTIONS[block.direction]
    return run_pb2.Block(rule=block.rule, direction=direction, message=block.message)


def _block_from(wire: run_pb2.Block) -> Block:
    return Block(wire.rule, DIRECTIONS[wire.direction], wire.message)


def runs_to(page: RunPage) -> run_pb2.ListRunsResponse:
    return run_pb2.ListRunsResponse(
        runs=[run_to(run) for run in page.runs], next_page_token=page.next_page_token
    )


def runs_from(wire: run_pb2.ListRunsResponse, tenant: str) -> RunPage:
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
