"""spec.orchestration: what it means, and what is wrong with it."""

import pytest

from servers.agents.catalogue.declare import Declaring
from servers.agents.manifest.orchestration import Orchestration
from servers.kernel.errors import InvalidInput
from servers.kernel.yaml_text import read_yaml
from tests.unit.manifest.reading import MODEL, agent, text, wrong


def declared(orchestration, **defaults):
    (document,) = read_yaml(text(MODEL + f"orchestration: {orchestration}"), "a.agent.yaml")
    return Declaring(**defaults).from_file(document).spec.orchestration


def refused(orchestration, **defaults):
    """Field -> what is wrong with it."""
    with pytest.raises(InvalidInput) as caught:
        declared(orchestration, **defaults)
    return {each.field: each.description for each in caught.value.violations}


class TestStages:
    def test_may_have_a_prompt_each(self):
        found = declared("{pattern: pipeline, stages: [a, b], stage_prompts: {b: Do it}}")
        assert (found.stages, found.stage_prompts) == (("a", "b"), {"b": "Do it"})

    def test_may_be_mappings_of_name_and_prompt(self):
        spec = "{pattern: pipeline, stages: [{name: a}, {name: b, prompt: Do it}, c]}"
        found = declared(spec)
        assert (found.stages, found.stage_prompts) == (("a", "b", "c"), {"b": "Do it"})

    def test_are_shown_in_one_spelling(self):
        spec = "orchestration: {pattern: pipeline, stages: [{name: a, prompt: x}]}"
        assert agent(MODEL + spec).canonical()["spec"]["orchestration"] == {
            "pattern": "pipeline",
            "stages": ["a"],
            "stage_prompts": {"a": "x"},
        }

    @pytest.mark.parametrize(
        ("stages", "field", "says"),
        [
            ("[]", "stages", "is empty"),
            ("[a, b, a]", "stages", "the stage 'a' is listed twice"),
            ("[a/b]", "stages[0]", "expected letters, digits"),
            ("[{name: a, promt: x}]", "stages[0].promt", "did you mean 'prompt'"),
            ("[{name: a, prompt: 7}]", "stages[0].prompt", "expected text"),
            ("[{prompt: x}]", "stages[0]", "expected text, found a mapping"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, stages, field, says):
        found = wrong(MODEL + f"orchestration: {{pattern: pipeline, stages: {stages}}}")
        assert says in found[f"spec.orchestration.{field}"]

    def test_with_two_prompts_are_refused(self):
        spec = "{pattern: pipeline, stages: [{name: a, prompt: x}], stage_prompts: {a: y}}"
        found = wrong(MODEL + f"orchestration: {spec}")
        assert "keep one of them" in found["spec.orchestration.stages[0].prompt"]

    def test_that_are_not_there_have_no_prompt(self):
        found = refused("{pattern: pipeline, stages: [analyze], stage_prompts: {analize: x}}")
        assert "did you mean 'analyze'" in found["spec.orchestration.stage_prompts.analize"]

    def test_have_prompts_that_compile(self):
        found = refused("{pattern: pipeline, stage_prompts: {analyze: '{{ x'}}")
        assert "template" in found["spec.orchestration.stage_prompts.analyze"]


class TestAKey:
    @pytest.mark.parametrize(
        ("key", "value", "patterns"),
        [
            ("stages", "[a]", "pipeline"),
            ("max_parallel", "2", "plan_and_execute or parallel_fan_out"),
            ("max_replans", "1", "plan_and_execute"),
            ("max_handoffs", "1", "swarm"),
        ],
    )
    def test_of_another_pattern_is_refused(self, key, value, patterns):
        found = refused(f"{{{key}: {value}}}")
        assert f"set pattern: {patterns}," in found[f"spec.orchestration.{key}"]

    @pytest.mark.parametrize(
        ("key", "value"), [("max_parallel", 0), ("max_replans", -1), ("max_parallel", 1000)]
    )
    def test_out_of_bounds_is_refused(self, key, value):
        found = wrong(MODEL + f"orchestration: {{pattern: plan_and_execute, {key}: {value}}}")
        assert list(found) == [f"spec.orchestration.{key}"]


def test_an_unknown_pattern_is_refused_with_the_nearest():
    found = wrong(MODEL + "orchestration: {pattern: pipelines}")
    assert "did you mean 'pipeline'" in found["spec.orchestration.pattern"]


class TestTheRuntimesDefaults:
    def test_hold_where_the_agent_is_silent(self):
        found = declared("{stages: [a]}", pattern="pipeline", max_iterations=3)
        assert (found.pattern, found.max_iterations, found.stages) == ("pipeline", 3, ("a",))

    def test_give_way_to_what_the_agent_says(self):
        assert declared("{pattern: react}", pattern="pipeline").pattern == "react"

    def test_are_those_of_react_where_nobody_says_anything(self):
        assert declared("{}") == Orchestration()
