"""Runs, their events, and the stores that keep them."""

import time
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

from servers.agents.adapters.opening import open_stores
from servers.agents.adapters.postgres.stores import open_postgres_stores
from servers.domain.chat import Finish, Role, says
from servers.domain.run_events import (
    Completed,
    ModelReplied,
    Payload,
    RunEvent,
    StateChanged,
    TextDelta,
)
from servers.domain.runs import Ask, AskKind, Run, RunState

WAITING = [state for state in RunState if state.waiting]
ENDED = [state for state in RunState if state.terminal]


def new_id() -> str:
    return uuid4().hex


@asynccontextmanager
async def sqlite(folder):
    async with open_stores(folder, time.time, new_id) as stores:
        yield stores


@asynccontextmanager
async def postgres(dsn, lease=15.0, **other):
    async with open_postgres_stores(dsn, lease, new_id(), **other) as stores:
        yield stores


def a_run(id: str = "r1", **other) -> Run:
    values = {
        "tenant": "acme",
        "agent": "helper",
        "session": "s",
        "created_at": 1.0,
        "state": RunState.RUNNING,
    } | other
    return Run(id=id, agent_version="1", query="hello?", **values)


def waiting_run(id: str = "r1", state: RunState = RunState.WAITING_APPROVAL, **other) -> Run:
    ask = Ask("1", AskKind.APPROVAL, "pay", '{"sum": 1}', principals=("ada",))
    return a_run(id, **{"state": state, "waiting": (ask,)} | other)


def timed_run(until: float | None, id: str = "r1", **other) -> Run:
    ask = Ask("2", AskKind.TIMER, "sleep", until=until)
    return a_run(id, **{"state": RunState.WAITING_TIMER, "waiting": (ask,)} | other)


def ended(run: Run, state: RunState = RunState.COMPLETED, at: float = 9.0) -> Run:
    return replace(run, state=state, ended_at=at)


def event(sequence: int, payload: Payload, run_id: str = "r1") -> RunEvent:
    return RunEvent(run_id, sequence, 5.0, payload)


STARTED = event(1, StateChanged(RunState.RUNNING))
REPLIED = ModelReplied(1, says(Role.ASSISTANT, "hi"), Finish())


def said(first: int, last: int, run_id: str = "r1", **other) -> list[RunEvent]:
    return [event(n, TextDelta(f"t{n}", **other), run_id) for n in range(first, last + 1)]


def the_end(sequence: int, run: Run) -> RunEvent:
    return event(sequence, Completed(run), run.id)


def ids(found) -> list[str]:
    return [run.id for run, _ in found]
