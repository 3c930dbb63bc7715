"""Plans as models write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.agents.patterns.plans import MOST_STEPS, PlannedStep, plan_of

TWO = [{"id": "a", "task": "look"}, {"id": "b", "task": "tell", "depends_on": ["a"]}]
READ = (PlannedStep("a", "look"), PlannedStep("b", "tell", ("a",)))


class TestAPlan:
    @pytest.mark.parametrize(
        "text",
        [
            json.dumps({"steps": TWO}),
            json.dumps(TWO),
            json.dumps({"plan": TWO}),
            f"Here is my plan:\n```json\n{json.dumps(TWO, indent=2)}\n```\nGood luck!",
            f"[Note: short] {json.dumps(TWO)}",
        ],
    )
    def test_is_found_however_it_is_wrapped(self, text):
        assert plan_of(text) == READ

    @pytest.mark.parametrize(
        "text", ["", "I will just do it.", "[]", "{}", '{"steps": []}', "[1, 2]", "[[[", "null"]
    )
    def test_is_none_where_there_are_no_tasks(self, text):
        assert plan_of(text) == ()

    def test_may_be_a_list_of_tasks(self):
        assert plan_of('["look", "tell"]') == (PlannedStep("1", "look"), PlannedStep("2", "tell"))

    def test_may_number_its_steps(self):
        written = '[{"id": 1, "task": "look"}, {"id": 2, "task": "tell", "depends_on": [1]}]'
        assert plan_of(written)[1] == PlannedStep("2", "tell", ("1",))

    def test_has_ids_that_can_name_a_part_of_a_run(self):
        (step,) = plan_of(json.dumps([{"id": " a/b c ", "task": "look"}]))
        assert step.id == "a-b-c"

    def test_has_no_two_steps_of_one_id(self):
        twice = [{"id": "a", "task": "look"}, {"id": "a", "task": "tell"}]
        assert [step.id for step in plan_of(json.dumps(twice))] == ["a", "a-2"]

    def test_is_bounded(self):
        assert len(plan_of(json.dumps([f"task {n}" for n in range(100)]))) == MOST_STEPS

    def test_does_nothing_again_that_is_done(self):
        assert plan_of(json.dumps(TWO), done=["a"]) == (PlannedStep("b", "tell", ("a",)),)


def steps(*words):
    """A step a word: its id, then those it depends on."""
    return json.dumps([{"id": i, "task": i, "depends_on": on} for i, *on in words])


class TestWhatAStepDependsOn:
    def test_comes_before_it(self):
        assert [step.id for step in plan_of(steps("ba", "a"))] == ["a", "b"]

    def test_is_dropped_where_it_is_not_there_or_the_step_itself(self):
        assert plan_of(steps("axa")) == (PlannedStep("a", "a"),)

    def test_is_dropped_where_it_goes_round_in_a_circle(self):
        assert plan_of(steps("ab", "bc", "ca")) == (
            PlannedStep("a", "a"),
            PlannedStep("c", "c", ("a",)),
            PlannedStep("b", "b", ("c",)),
        )

    @given(st.lists(st.text("abcdefg", min_size=1)))
    def test_is_always_done_before_whatever_is_written(self, words):
        done: set[str] = set()
        found = plan_of(steps(*words))
        for step in found:
            assert done.issuperset(step.depends_on)
            done.add(step.id)
        assert len(done) == len(found) == len(words[:MOST_STEPS])


@given(st.text(alphabet='[]{}",: ab1\\'))
def test_no_text_is_too_odd_to_be_read(text):
    plan_of(text)
