"""Rules hold in every part of a run, whatever its pattern."""

import pytest

from servers.domain.run_events import BranchStarted, Guarded
from servers.domain.runs import RunState
from tests.contract.pattern_fixture import ASK, ME, payloads, reached, says, told, world
from tests.scripted.http_server import Reply, Then

__all__ = ["reached", "world"]
FAN_OUT = {"pattern": "parallel_fan_out"}
PLAN = {"pattern": "plan_and_execute"}
SECRET = "ada@example.com"
DIVIDED = {
    "Write the final answer": says("All done."),
    "Divide it": says('{"subtasks": ["look for ada@example.com", "listen"]}'),
    "rest]\nlook for": says("It is ada@", "example.com"),
    "rest]\nlisten": says("quiet"),
}
REDACT = {"output": [{"type": "pii_detection"}]}
BLOCK = {"output": [{"type": "pii_detection", "action": "block", "message": "No."}]}


class TestAFanOut:
    async def test_shows_its_parts_redacted_to_one_another_and_to_readers(self, world):
        async with world(DIVIDED, orchestration=FAN_OUT, guardrails=REDACT) as (agents, model):
            run = await agents.run(ME, ASK)
            events = await told(agents.events(ME, run.id))
            asked = repr([request.body for request in model.requests])
        assert run.answer == "All done."
        starts = payloads(events, BranchStarted)
        assert "look for [EMAIL]" in [start.input for start in starts]
        assert SECRET not in repr(events) + asked
        assert len(payloads(events, Guarded)) == 2

    async def test_ends_as_a_whole_where_one_part_is_blocked(self, world):
        answers = DIVIDED | {
            "Divide it": says('{"subtasks": ["look for it", "listen"]}'),
            "rest]\nlisten": Reply(("I hear",), then=Then.HANG),
        }
        async with world(answers, orchestration=FAN_OUT, guardrails=BLOCK) as (agents, _):
            run = await agents.run(ME, ASK)
            events = await told(agents.events(ME, run.id))
        assert (run.state, run.answer) == (RunState.BLOCKED, "No.")
        assert SECRET not in repr(events)


class TestAPlan:
    async def test_is_not_cut_by_a_limit_to_the_length_of_answers(self, world):
        answers = {
            "make a plan": says(
                '{"steps": [{"id": "a", "task": "look"}, {"id": "b", "task": "go"}]}'
            ),
            "[The work on this was divided": says("All done, at last."),
            "step only]\nlook": says("red"),
            "step only]\ngo": says("gone"),
        }
        short = {"output": [{"type": "max_length", "max_chars": 8}]}
        async with world(answers, orchestration=PLAN, guardrails=short) as (agents, _):
            run = await agents.run(ME, ASK)
            starts = payloads(await told(agents.events(ME, run.id)), BranchStarted)
        assert run.answer == "All done"
        assert [start.name for start in starts] == ["plan", "a", "b"]


@pytest.mark.parametrize(
    "orchestration", [FAN_OUT, PLAN, {"pattern": "pipeline"}], ids=lambda o: o["pattern"]
)
async def test_a_limit_to_the_cost_ends_a_run_between_its_parts(world, orchestration):
    limit = {"output": [{"type": "cost_limit", "max_tokens": 9, "message": "Enough."}]}
    async with world(DIVIDED, orchestration=orchestration, guardrails=limit) as (agents, model):
        run = await agents.run(ME, ASK)
        assert len(model.requests) == 1
    assert (run.state, run.answer) == (RunState.BLOCKED, "Enough.")
