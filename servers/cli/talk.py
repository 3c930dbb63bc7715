"""Asks an agent and shows its answer as it comes.

The answer goes to standard output, everything else to standard error, so that a pipe gets
the answer alone.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterable

from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import run_event_pb2, run_pb2
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub

from servers.cli import failures
from servers.cli.client import connected
from servers.cli.runs import as_json
from servers.cli.text import clean
from servers.kernel.details import from_status
from servers.kernel.errors import AstromeshError


async def ask(
    address: str, agent: str, query: str, session: str, *, json: bool, seconds: float | None
) -> int:
    """Run an agent once; gives the exit code: 0 only where the run came to an answer."""
    request = pb.StreamAgentRequest(agent=agent, query=query, session_id=session)
    async with connected(address) as channel:
        call = AgentServiceStub(channel).StreamAgent(request, timeout=seconds)
        try:
            waits = _Waits()
            events = waits.noting(call)
            run = await (_printed(events) if json else _shown(events))
        except asyncio.CancelledError:  # Ctrl-C
            call.cancel()  # and with it the run
            _aside("\nstopped")
            return failures.INTERRUPTED
    return waits.told() if run is None and waits.run else _code(run)


class _Waits:
    """Whether the run waits for something when its events end."""

    def __init__(self) -> None:
        self.run, self._state = "", ""

    async def noting(
        self, events: AsyncIterable[run_event_pb2.RunEvent]
    ) -> AsyncGenerator[run_event_pb2.RunEvent, None]:
        async for event in events:
            state = run_pb2.RunState.Name(event.state_change.state).removeprefix("RUN_STATE_")
            waits = event.HasField("state_change") and state.startswith("WAITING")
            self.run, self._state = (event.run_id, state.lower()) if waits else ("", "")
            yield event

    def told(self) -> int:
        _aside(
            f"the run is {self._state}: see `astromesh runs get {self.run}`, answer with "
            f"`astromesh runs resume {self.run}`"
        )
        return failures.FAILED


def converse(address: str, agent: str, session: str) -> int:
    """Question after question in one session, until the input ends."""
    session = session or uuid.uuid4().hex
    if sys.stdin.isatty():
        _aside(f"session {session}; Ctrl-C stops an answer, Ctrl-D ends")
    while (query := _prompt()) is not None:
        if query.strip():
            try:
                asyncio.run(ask(address, agent, query, session, json=False, seconds=None))
            except failures.NobodyThere:
                raise
            except AstromeshError as error:  # this question failed; the next may not
                failures.tell(error)
    return 0


# Parts of these kinds work at the same time.
_AT_ONCE = (run_event_pb2.BRANCH_KIND_STEP, run_event_pb2.BRANCH_KIND_BRANCH)


def _prompt() -> str | None:
    try:
        return input("you> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


async def _printed(events: AsyncIterable[run_event_pb2.RunEvent]) -> run_pb2.Run | None:
    run = None
    async for event in events:
        print(as_json(event), flush=True)
        if event.HasField("completed"):
            run = event.completed
    return run


async def _shown(events: AsyncIterable[run_event_pb2.RunEvent]) -> run_pb2.Run | None:
    """Text as it comes; a new line where a tool was used in between, or a part of the run begins.
    What is said in parts that work at the same time is for the run itself, not for people."""
    begun, run, aside = False, None, set[str]()
    async for event in events:
        match event.WhichOneof("payload"):
            case "text_delta" if event.text_delta.node in aside:
                pass
            case "knowledge" | "memory" | "episodes" if _found_nothing(event):
                pass
            case "text_delta":
                begun = True
                print(clean(event.text_delta.text), end="", flush=True)
            case (
                "branch_started"
                | "tool_call"
                | "tool_result"
                | "notice"
                | "knowledge"
                | "memory"
                | "episodes"
                | "restarted" as kind
            ):
                if event.branch_started.kind in _AT_ONCE:
                    aside.add(event.branch_started.node)
                if begun:
                    print(flush=True)
                begun = False
                _aside(_remark(event, kind))
            case "completed":
                run = event.completed
    if begun:
        print(flush=True)
    return run


def _found_nothing(event: run_event_pb2.RunEvent) -> bool:
    return not (event.knowledge.sources or event.memory.memories or event.episodes.episodes)


def _remark(event: run_event_pb2.RunEvent, kind: str) -> str:
    match kind:
        case "branch_started":
            return f"[{event.branch_started.node}: {event.branch_started.name}]"
        case "tool_call":
            return f"[{event.tool_call.name} {event.tool_call.arguments}]"
        case "tool_result":
            return (
                f"[{event.tool_result.name}: {' '.join(event.tool_result.content.split())[:200]}]"
            )
        case "memory":
            return f"[memory: {len(event.memory.memories)} found]"
        case "episodes":
            return f"[episodes: {len(event.episodes.episodes)} found]"
        case "knowledge":
            named = (f"[{each.number}] {each.title}" for each in event.knowledge.sources)
            return clean(f"[{event.knowledge.pipeline}: {', '.join(named)}]")
        case "notice":
            return f"[{event.notice.reason}: {event.notice.message}]"
    return "[the mesh was restarted; the last part is said again]"


def _code(run: run_pb2.Run | None) -> int:
    if run is None:
        return failures.FAILED
    if run.state == run_pb2.RUN_STATE_COMPLETED:
        return 0
    if run.state == run_pb2.RUN_STATE_BLOCKED:
        said = f": {run.block.message}" if run.block.message else ""
        _aside(f"error: the guardrail {run.block.rule} ended the run{said}")
        return failures.FAILED
    error = from_status(run.error) if run.HasField("error") else None
    if error is not None:
        return failures.tell(error)
    state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    _aside(f"error: the run ended {state}; see `astromesh runs get {run.run_id}`")
    return failures.FAILED


def _aside(text: str) -> None:
    print(clean(text), file=sys.stderr, flush=True)
