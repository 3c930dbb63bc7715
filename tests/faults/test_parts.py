"""A crash between any two steps of a run of several parts: the next process does the rest."""

import json
import time
from collections import Counter
from dataclasses import replace

import pytest

from servers.agents.adapters.opening import open_stores
from servers.domain.run_events import (
    BranchEnded,
    Completed,
    ModelReplied,
    TextDelta,
    ToolReturned,
    UsageReported,
)
from servers.domain.runs import RunRequest, RunState
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, refuses
from tests.scripted.knowing_server import knowing_server
from tests.unit.agents.troubled import ME, World, _new_id, ended, seen

ASK = RunRequest("helper", "How far?")
ADD = Reply(("Let me see",), calls=[Call("calculator", '{"expression": "2+3"}')])
PLAN = [
    {"id": "a", "task": "add"},
    {"id": "b", "task": "lose"},
    {"id": "c", "task": "go on", "depends_on": ["a"]},
    {"id": "d", "task": "despair", "depends_on": ["b"]},
]
ANSWERS = {
    "Write the final answer": Reply(("The ", "answer")),
    "have failed]": Reply(('[{"id": "e", "task": "try again", "depends_on": ["c"]}]',)),
    "make a plan]": Reply((json.dumps(PLAN),)),
    "Divide it": Reply(('["add", "lose", "go on"]',)),
    "]\nadd": ADD,
    "]\nlose": refuses(400),
    "process]": ADD,
}
CASES = {
    "plan_and_execute": {"max_replans": 1, "max_parallel": 2},
    "parallel_fan_out": {},
    "pipeline": {},
}


def is_step(payload):
    return not isinstance(payload, TextDelta | UsageReported)


def steps(events):
    """What was done, in whatever order."""
    return Counter(
        (type(each.payload).__name__, getattr(each.payload, "node", ""))
        for each in events
        if isinstance(each.payload, ModelReplied | ToolReturned | BranchEnded)
    )


def done(events):
    """How many requests need not be made again."""
    failed = [e for e in events if isinstance(e.payload, BranchEnded) and e.payload.failure]
    return len(failed) + sum(isinstance(each.payload, ModelReplied) for each in events)


@pytest.mark.parametrize(("pattern", "more"), CASES.items(), ids=CASES)
async def test_the_rest_is_done_and_nothing_twice(pattern, more, tmp_path):
    async with knowing_server(dict(ANSWERS), Reply(("fine",))) as model:
        spec = {"orchestration": {"pattern": pattern, **more}, "tools": ["calculator"]}
        manifest = agent("helper", model.endpoint, **spec)

        def world(name):
            write_agents(tmp_path / name, manifest)
            return World(tmp_path / name, model)

        async with world("whole").runtime() as (runtime, _):
            run = await runtime.run(ME, ASK)
            events = [
                each
                for each in await seen(runtime.events(ME, run.id))
                if not isinstance(each.payload, Completed)
            ]
        asked = len(model.requests)
        assert asked == done(events)
        cut_off = replace(
            run, state=RunState.RUNNING, stop_reason=None, answer="", ended_at=None, usage=()
        )
        for length in [0, *(at for at, each in enumerate(events, 1) if is_step(each.payload))]:
            here, past = world(str(length)), events[:length]
            async with open_stores(here.folder, time.time, _new_id) as stores:
                await stores.runs.create(cut_off, "", past)
            model.requests.clear()
            async with here.runtime() as (runtime, _):
                again = await ended(runtime, run.id)
                told = await seen(runtime.events(ME, run.id))
            assert (again.answer, again.state) == (run.answer, RunState.COMPLETED)
            assert len(model.requests) == asked - done(past)
            assert steps(told) == steps(events)
