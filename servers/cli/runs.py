"""Runs of a mesh: list, get, follow, cancel."""

import sys
from collections.abc import Sequence

from astromesh.agents.v1 import ask_pb2, run_event_pb2, run_pb2
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from google.protobuf.json_format import MessageToJson

from servers.cli import failures
from servers.cli.choices import Output, State
from servers.cli.client import PATIENCE, connected
from servers.cli.output import Columns, local_time, show_all, show_one
from servers.cli.paging import paged
from servers.cli.text import clean
from servers.kernel.details import from_status


def _state(run: run_pb2.Run) -> str:
    return run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()


def _why(run: run_pb2.Run) -> str:
    name = run_pb2.StopReason.Name(run.stop_reason).removeprefix("STOP_REASON_").lower()
    return "" if name == "unspecified" else name


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _seconds(run: run_pb2.Run) -> str:
    if not run.end_time.seconds or not run.start_time.seconds:
        return ""
    return f"{(run.end_time.ToMilliseconds() - run.start_time.ToMilliseconds()) / 1000:.1f} s"


def _ask(ask: ask_pb2.Ask) -> str:
    kind = ask_pb2.AskKind.Name(ask.kind).removeprefix("ASK_KIND_").lower()
    if ask.run_id:
        return f"{kind} {ask.run_id} (call {ask.call_id}, {ask.tool})"
    until = f" until {local_time(ask.until)}" if ask.HasField("until") else ""
    return f"{kind} of call {ask.call_id}: {ask.tool}({_short(ask.arguments)}){until}"


def _error(run: run_pb2.Run) -> str:
    error = from_status(run.error) if run.HasField("error") else None
    return failures.line(error) if error else run.error.message


_ROW: Columns = {
    "RUN": lambda run: run.run_id,
    "AGENT": lambda run: run.agent,
    "STATE": _state,
    "CREATED": lambda run: local_time(run.create_time),
    "TOOK": _seconds,
    "QUERY": lambda run: _short(run.query),
}
_WHOLE: Columns = {
    "run": lambda run: run.run_id,
    "agent": lambda run: " ".join((run.agent, run.agent_version)).strip(),
    "session": lambda run: run.session_id,
    "state": _state,
    "stop reason": _why,
    "error": _error,
    "created": lambda run: local_time(run.create_time),
    "took": _seconds,
    "iterations": lambda run: run.iterations,
    "waits for": lambda run: "; ".join(map(_ask, run.waiting)),
    "blocked": lambda run: run.block.message or run.block.rule,
    "parent": lambda run: run.parent_run_id,
    "attempt": lambda run: run.attempt if run.attempt > 1 else None,
    "tokens": lambda run: f"{run.usage.prompt_tokens} in, {run.usage.completion_tokens} out",
    "cost": lambda run: f"${run.usage.cost_usd:.6f}" if run.usage.HasField("cost_usd") else None,
    "query": lambda run: run.query,
    "answered by": lambda run: run.answered_by,
    "answer": lambda run: run.answer,
}


async def list_runs(
    address: str,
    agent: str,
    session: str,
    states: Sequence[State],
    principal: str,
    limit: int,
    form: Output,
) -> None:
    request = run_pb2.ListRunsRequest(
        agent=agent,
        session_id=session,
        states=[run_pb2.RunState.Value(f"RUN_STATE_{state.name}") for state in states],
        principal=principal,
    )
    async with connected(address) as channel:
        ask = AgentServiceStub(channel).ListRuns
        found = [each async for each in paged(ask, request, "runs", limit)]
    show_all(found, _ROW, form)


async def get_run(address: str, run: str, form: Output) -> None:
    async with connected(address) as channel:
        found = await AgentServiceStub(channel).GetRun(
            run_pb2.GetRunRequest(run=run), timeout=PATIENCE
        )
    show_run(found, form)


async def cancel_run(address: str, run: str, reason: str, form: Output) -> None:
    async with connected(address) as channel:
        request = run_pb2.CancelRunRequest(run=run, reason=reason)
        ended = await AgentServiceStub(channel).CancelRun(request, timeout=PATIENCE)
    show_run(ended, form)


def show_run(run: run_pb2.Run, form: Output) -> None:
    show_one(run, _WHOLE, form)


async def follow(address: str, run: str, after: int, form: Output) -> None:
    request = run_event_pb2.StreamRunEventsRequest(run=run, after_sequence=after)
    async with connected(address) as channel:
        async for event in AgentServiceStub(channel).StreamRunEvents(request):
            print(as_json(event) if form is Output.JSON else _line(event))
            sys.stdout.flush()


def as_json(event: run_event_pb2.RunEvent) -> str:
    """One line, as REST prints it."""
    return MessageToJson(event, preserving_proto_field_name=True, indent=None, ensure_ascii=False)


def _line(event: run_event_pb2.RunEvent) -> str:
    kind = event.WhichOneof("payload") or "unknown"
    at, gist = local_time(event.time), clean(_gist(event, kind))
    return f"{event.sequence:>5}  {at}  {kind:16} {gist}".rstrip()


def _gist(event: run_event_pb2.RunEvent, kind: str) -> str:
    match kind:
        case "text_delta":
            return repr(event.text_delta.text)
        case "reasoning_delta":
            return repr(event.reasoning_delta.text)
        case "state_change":
            state = run_pb2.RunState.Name(event.state_change.state).removeprefix("RUN_STATE_")
            return f"{state.lower()} {event.state_change.reason}"
        case "model_reply":
            reply = event.model_reply
            return f"{reply.provider}/{reply.model} {_short(reply.message.text)}"
        case "tool_call":
            return f"{event.tool_call.name}({_short(event.tool_call.arguments)})"
        case "tool_result":
            return f"{event.tool_result.name} -> {_short(event.tool_result.content)}"
        case "guarded":
            report = event.guarded
            direction = run_pb2.GuardDirection.Name(report.direction)
            place = direction.removeprefix("GUARD_DIRECTION_").lower()
            return f"{report.rule} {report.action} {place} {report.count}"
        case "usage":
            used = event.usage.total
            return f"{used.prompt_tokens} tokens in, {used.completion_tokens} out"
        case "notice":
            return f"{event.notice.reason} {event.notice.message}"
        case "restarted":
            return f"attempt {event.restarted.attempt}"
        case "completed":
            return " ".join(filter(None, (_state(event.completed), _error(event.completed))))
    return _gist_of_part(event, kind)


def _gist_of_part(event: run_event_pb2.RunEvent, kind: str) -> str:
    match kind:
        case "branch_started":
            start = event.branch_started
            return f"{start.node} {_short(start.name)}"
        case "branch_ended":
            failed = " failed" if event.branch_ended.HasField("error") else ""
            return f"{event.branch_ended.node}{failed}"
        case "memory":
            return _short(", ".join(each.id for each in event.memory.memories))
        case "episodes":
            return _short(", ".join(each.id for each in event.episodes.episodes))
        case "knowledge":
            found = ", ".join(each.document for each in event.knowledge.sources)
            return f"{event.knowledge.pipeline} {_short(found)}"
        case "sub_run_started":
            return f"{event.sub_run_started.agent} {event.sub_run_started.run_id}"
        case "asked":
            return _ask(event.asked)
        case "decided":
            decided = event.decided
            verdict = ask_pb2.Verdict.Name(decided.verdict).removeprefix("VERDICT_").lower()
            return f"{verdict} call {decided.call_id} {_short(decided.reason)}".rstrip()
        case "guarded":
            report = event.guarded
            where = run_pb2.GuardDirection.Name(report.direction).removeprefix("GUARD_DIRECTION_")
            return f"{report.rule} {report.action} on {where.lower()}, {report.count} times"
    return ""
