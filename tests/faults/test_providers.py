"""Model servers that fail three times in ten, in every way they know."""

import random
from contextlib import aclosing

import pytest

from servers.domain.run_events import Completed, TextDelta
from servers.domain.runs import RunRequest, RunState
from tests.faults.replicas import ME
from tests.faults.thinking import thinking
from tests.running import agent, mesh_of
from tests.scripted.http_server import Reply, Then, refuses

RUNS = 40
SHARE = 0.3
FAULTS = (
    refuses(500),
    refuses(429, **{"retry-after": "0"}),
    Reply((), then=Then.HANG),
    Reply(("The ", "ans"), then=Then.CLOSE),
    Reply(("The ",), then=Then.GARBAGE),
)
ANSWER = ("The ", "answer ", "is ", "42")


def moody(chance):
    def think(asked):
        return chance.choice(FAULTS) if chance.random() < SHARE else Reply(ANSWER)

    return think


@pytest.mark.parametrize("seed", range(3))
async def test_no_token_is_shown_twice(tmp_path, seed):
    chance = random.Random(seed)
    async with thinking(moody(chance)) as model, thinking(moody(chance)) as other:
        helper = agent("helper", model.endpoint)
        choice = {"provider": "openai_compat", "model": "m", "timeout": 0.3}
        helper["spec"]["model"] = {
            "primary": {**choice, "endpoint": model.endpoint},
            "fallback": [{**choice, "endpoint": other.endpoint}],
        }
        async with mesh_of(tmp_path, helper) as mesh:
            for number in range(RUNS):
                work = RunRequest("helper", f"question {number}")
                async with aclosing(mesh.agents.stream(ME, work)) as source:
                    events = [event async for event in source]
                check(events)


def check(events):
    end = events[-1].payload
    assert isinstance(end, Completed)
    shown = "".join(e.payload.text for e in events if isinstance(e.payload, TextDelta))
    whole = "".join(ANSWER)
    if end.run.state is RunState.COMPLETED:
        assert (shown, end.run.answer) == (whole, whole)
    else:  # it broke after its first piece: nobody else takes over
        assert end.run.state is RunState.FAILED
        assert whole.startswith(shown)
