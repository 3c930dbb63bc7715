"""The events of runs between the wire and the domain."""

from typing import assert_never

from astromesh.agents.v1 import ask_pb2, run_event_pb2
from astromesh.tools.v1 import tool_service_pb2

from servers.agents.convert.runs import (
    DIRECTIONS,
    STATES,
    WIRE_DIRECTIONS,
    WIRE_STATES,
    ask_from,
    ask_to,
    failure_from,
    failure_to,
    model_usage_from,
    model_usage_to,
    run_from,
    run_to,
    source_from,
    source_to,
)
from servers.domain.chat import Finish, Usage
from servers.domain.run_events import (
    Asked,
    BranchEnded,
    BranchKind,
    BranchStarted,
    Completed,
    Decided,
    EpisodesRecalled,
    Guarded,
    KnowledgeFound,
    MemoriesRecalled,
    ModelReplied,
    Noticed,
    Payload,
    ReasoningDelta,
    RecalledEpisode,
    RecalledMemory,
    Restarted,
    RunEvent,
    StateChanged,
    SubRunStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from servers.domain.runs import Decision, Verdict
from servers.domain.tools import Outcome
from servers.kernel.chat_wire import (
    finish_reason_from,
    finish_reason_to,
    message_from,
    message_to,
    time_from,
    time_to,
    usage_from,
    usage_to,
)

_OUTCOMES = {
    tool_service_pb2.TOOL_OUTCOME_OK: Outcome.OK,
    tool_service_pb2.TOOL_OUTCOME_ERROR: Outcome.ERROR,
    tool_service_pb2.TOOL_OUTCOME_TIMEOUT: Outcome.TIMEOUT,
    tool_service_pb2.TOOL_OUTCOME_UNKNOWN: Outcome.UNKNOWN,
}
_WIRE_OUTCOMES = {outcome: number for number, outcome in _OUTCOMES.items()}
_BRANCHES = {
    run_event_pb2.BRANCH_KIND_STAGE: BranchKind.STAGE,
    run_event_pb2.BRANCH_KIND_STEP: BranchKind.STEP,
    run_event_pb2.BRANCH_KIND_BRANCH: BranchKind.BRANCH,
    run_event_pb2.BRANCH_KIND_HANDOFF: BranchKind.HANDOFF,
}
_WIRE_BRANCHES = {kind: number for number, kind in _BRANCHES.items()}
_VERDICTS = {
    ask_pb2.VERDICT_APPROVE: Verdict.APPROVE,
    ask_pb2.VERDICT_REJECT: Verdict.REJECT,
    ask_pb2.VERDICT_RESULT: Verdict.RESULT,
}
_WIRE_VERDICTS = {verdict: number for number, verdict in _VERDICTS.items()}


def event_to(event: RunEvent) -> run_event_pb2.RunEvent:
    wire = run_event_pb2.RunEvent(
        run_id=event.run_id, sequence=event.sequence, time=time_to(event.time)
    )
    _put(event.payload, wire)
    return wire


def _put(payload: Payload, wire: run_event_pb2.RunEvent) -> None:
    match payload:
        case TextDelta(text, call, node):
            delta = wire.text_delta  # the most frequent of all: no message in between
            delta.text, delta.model_call = text, call
            if node:
                delta.node = node
        case ReasoningDelta(text, call, node):
            thought = run_event_pb2.ReasoningDelta(text=text, model_call=call, node=node)
            wire.reasoning_delta.CopyFrom(thought)
        case StateChanged(state, reason):
            wire.state_change.state, wire.state_change.reason = WIRE_STATES[state], reason
        case ModelReplied():
            wire.model_reply.CopyFrom(_reply_to(payload))
        case ToolCalled():
            wire.tool_call.CopyFrom(_call_to(payload))
        case ToolReturned():
            wire.tool_result.CopyFrom(_result_to(payload))
        case UsageReported(models):
            total = sum((each.usage for each in models), Usage())
            wire.usage.total.CopyFrom(usage_to(total))
            wire.usage.models.extend(model_usage_to(models))
        case Noticed(reason, message):
            wire.notice.reason, wire.notice.message = reason, message
        case Restarted(attempt, discard_after):
            wire.restarted.attempt, wire.restarted.discard_after = attempt, discard_after
        case Completed(run):
            wire.completed.CopyFrom(run_to(run))
        case _:
            _put_part(payload, wire)


def _put_part(
    payload: BranchStarted
    | BranchEnded
    | SubRunStarted
    | Asked
    | Decided
    | Guarded
    | KnowledgeFound
    | MemoriesRecalled
    | EpisodesRecalled,
    wire: run_event_pb2.RunEvent,
) -> None:
    match payload:
        case BranchStarted():
            wire.branch_started.CopyFrom(_branch_to(payload))
        case BranchEnded(node, failure):
            error = failure_to(failure) if failure else None
            wire.branch_ended.CopyFrom(run_event_pb2.BranchEnd(node=node, error=error))
        case SubRunStarted(call_id, run_id, agent):
            started = run_event_pb2.SubRunStart(call_id=call_id, run_id=run_id, agent=agent)
            wire.sub_run_started.CopyFrom(started)
        case Asked(ask):
            wire.asked.CopyFrom(ask_to(ask))
        case Decided():
            wire.decided.CopyFrom(_decided_to(payload))
        case Guarded():
            wire.guarded.CopyFrom(_guarded_to(payload))
        case KnowledgeFound():
            wire.knowledge.CopyFrom(_knowledge_to(payload))
        case MemoriesRecalled():
            wire.memory.CopyFrom(_memory_to(payload))
        case EpisodesRecalled():
            wire.episodes.CopyFrom(_episodes_to(payload))
        case _:
            assert_never(payload)


def event_from(wire: run_event_pb2.RunEvent, tenant: str) -> RunEvent | None:
    """None for a payload that only a newer mesh knows."""
    payload = _payload_from(wire, tenant)
    if payload is None:
        return None
    return RunEvent(wire.run_id, wire.sequence, time_from(wire.time), payload)


def _payload_from(wire: run_event_pb2.RunEvent, tenant: str) -> Payload | None:
    match wire.WhichOneof("payload"):
        case "text_delta":
            text = wire.text_delta
            return TextDelta(text.text, text.model_call, text.node)
        case "reasoning_delta":
            thought = wire.reasoning_delta
            return ReasoningDelta(thought.text, thought.model_call, thought.node)
        case "state_change":
            return StateChanged(STATES[wire.state_change.state], wire.state_change.reason)
        case "model_reply":
            return _reply_from(wire.model_reply)
        case "tool_call":
            return _call_from(wire.tool_call)
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
    return _part_from(wire)


def _part_from(wire: run_event_pb2.RunEvent) -> Payload | None:
    match wire.WhichOneof("payload"):
        case "branch_started":
            start = wire.branch_started
            kind = _BRANCHES[start.kind]
            return BranchStarted(start.node, start.parent, kind, start.name, start.input)
        case "branch_ended":
            end = wire.branch_ended
            return BranchEnded(end.node, failure_from(end.error) if end.HasField("error") else None)
        case "sub_run_started":
            sub = wire.sub_run_started
            return SubRunStarted(sub.call_id, sub.run_id, sub.agent)
        case "asked":
            return Asked(ask_from(wire.asked))
        case "decided":
            return _decided_from(wire.decided)
        case "guarded":
            seen = wire.guarded
            direction = DIRECTIONS[seen.direction]
            return Guarded(seen.rule, direction, seen.action, seen.count, seen.call_id)
        case "knowledge":
            return _knowledge_from(wire.knowledge)
        case "memory":
            return _memory_from(wire.memory)
        case "episodes":
            return _episodes_from(wire.episodes)
    return None


def _memory_to(recalled: MemoriesRecalled) -> run_event_pb2.MemoryReport:
    memories = [
        run_event_pb2.RecalledMemory(
            id=each.id, collection=each.collection, kind=each.kind, similarity=each.similarity
        )
        for each in recalled.memories
    ]
    return run_event_pb2.MemoryReport(memories=memories)


def _memory_from(wire: run_event_pb2.MemoryReport) -> MemoriesRecalled:
    return MemoriesRecalled(
        tuple(
            RecalledMemory(each.id, each.collection, each.kind, each.similarity)
            for each in wire.memories
        )
    )


def _episodes_to(recalled: EpisodesRecalled) -> run_event_pb2.EpisodeReport:
    report = run_event_pb2.EpisodeReport()
    for each in recalled.episodes:
        report.episodes.add(id=each.id, run_id=each.run_id)
    return report


def _episodes_from(wire: run_event_pb2.EpisodeReport) -> EpisodesRecalled:
    return EpisodesRecalled(tuple(RecalledEpisode(each.id, each.run_id) for each in wire.episodes))


def _knowledge_to(found: KnowledgeFound) -> run_event_pb2.KnowledgeReport:
    sources = [source_to(each) for each in found.sources]
    return run_event_pb2.KnowledgeReport(
        pipeline=found.pipeline, call_id=found.call_id, sources=sources
    )


def _knowledge_from(wire: run_event_pb2.KnowledgeReport) -> KnowledgeFound:
    sources = tuple(source_from(each) for each in wire.sources)
    return KnowledgeFound(wire.pipeline, sources, wire.call_id)


def _branch_to(start: BranchStarted) -> run_event_pb2.BranchStart:
    return run_event_pb2.BranchStart(
        node=start.node,
        parent=start.parent,
        kind=_WIRE_BRANCHES[start.kind],
        name=start.name,
        input=start.input,
    )


def _decided_to(decided: Decided) -> ask_pb2.Decision:
    decision = decided.decision
    return ask_pb2.Decision(
        call_id=decision.call_id,
        verdict=_WIRE_VERDICTS[decision.verdict],
        reason=decision.reason,
        arguments=decision.arguments,
        content=decision.content,
        is_error=decision.is_error,
        principal=decided.principal,
    )


def _decided_from(wire: ask_pb2.Decision) -> Decided:
    decision = Decision(
        wire.call_id,
        _VERDICTS[wire.verdict],
        wire.reason,
        wire.arguments,
        wire.content,
        wire.is_error,
    )
    return Decided(decision, wire.principal)


def _guarded_to(report: Guarded) -> run_event_pb2.GuardReport:
    return run_event_pb2.GuardReport(
        rule=report.rule,
        direction=WIRE_DIRECTIONS[report.direction],
        action=report.action,
        count=report.count,
        call_id=report.call_id,
    )


def _call_to(call: ToolCalled) -> run_event_pb2.ToolCallStarted:
    return run_event_pb2.ToolCallStarted(
        call_id=call.call_id,
        name=call.name,
        arguments=call.arguments,
        model_call_id=call.model_call_id,
        node=call.node,
    )


def _call_from(wire: run_event_pb2.ToolCallStarted) -> ToolCalled:
    return ToolCalled(wire.call_id, wire.name, wire.arguments, wire.model_call_id, wire.node)


def _reply_to(reply: ModelReplied) -> run_event_pb2.ModelReply:
    return run_event_pb2.ModelReply(
        model_call=reply.model_call,
        message=message_to(reply.message),
        finish_reason=finish_reason_to(reply.finish.reason),
        usage=usage_to(reply.finish.usage),
        provider=reply.finish.provider,
        model=reply.finish.model,
        duration_seconds=reply.duration,
        emulated_tools=reply.finish.emulated,
        cached=reply.finish.cached,
        node=reply.node,
    )


def _reply_from(wire: run_event_pb2.ModelReply) -> ModelReplied:
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
    return ModelReplied(wire.model_call, message, finish, wire.duration_seconds, wire.node)


def _result_to(result: ToolReturned) -> run_event_pb2.ToolCallEnded:
    return run_event_pb2.ToolCallEnded(
        call_id=result.call_id,
        name=result.name,
        content=result.content,
        outcome=_WIRE_OUTCOMES[result.outcome],
        truncated_tokens=result.truncated_tokens,
        duration_seconds=result.duration,
    )


def _result_from(wire: run_event_pb2.ToolCallEnded) -> ToolReturned:
    return ToolReturned(
        wire.call_id,
        wire.name,
        wire.content,
        _OUTCOMES.get(wire.outcome, Outcome.UNKNOWN),
        wire.truncated_tokens,
        wire.duration_seconds,
    )
