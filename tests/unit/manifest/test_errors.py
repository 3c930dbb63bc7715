"""What a user is told about a manifest that is wrong."""

import pytest

from servers.agents.manifest import Agent
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import load
from tests.unit.manifest.reading import MODEL, agent, text, violations, wrong


def message(whole: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        load(Agent, whole, "support.agent.yaml", {})
    return caught.value.message


def test_the_message_names_file_line_field_and_the_nearest_known_key():
    assert message(text(MODEL + "promts: {system: hi}")) == (
        "support.agent.yaml:6: spec.promts: unknown key 'promts'; did you mean 'prompts'?"
    )


def test_the_message_says_how_much_more_is_wrong():
    assert message(text(MODEL + "promts: 1\ntoolz: 2")).endswith(" (and 1 more)")


def test_everything_wrong_is_reported():
    assert set(wrong("model: {}\ntools: 3\norchestration: {max_iterations: many}")) == {
        "spec.model",
        "spec.tools",
        "spec.orchestration.max_iterations",
    }


def test_an_unknown_key_like_nothing_lists_what_there_is():
    assert wrong(MODEL + "orchestration: {zzz: 1}")["spec.orchestration.zzz"].startswith(
        "unknown key 'zzz'; known are pattern, max_iterations, "
    )


def test_a_misspelt_synonym_is_recognised_too():
    found = wrong("model: {primary: {provider: x, temprature: 1}}")
    assert found["spec.model.primary.temprature"] == (
        "unknown key 'temprature'; did you mean 'temperature'?"
    )


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ("model: 1", "spec.model", "expected a mapping of keys, found a number"),
        (MODEL + "tools: x", "spec.tools", "expected a list, found text"),
        (
            MODEL + "prompts: {system: 1.5}",
            "spec.prompts.system",
            "expected text, found a number (put it in quotes)",
        ),
        (
            MODEL + "orchestration: {max_iterations: '3'}",
            "spec.orchestration.max_iterations",
            "expected a whole number, found text",
        ),
        (
            MODEL + "orchestration: {max_iterations: 101}",
            "spec.orchestration.max_iterations",
            "must be less than or equal to 100",
        ),
        (
            MODEL + "tools: [{name: t, idempotent: yes}]",
            "spec.tools[0].idempotent",
            "expected true or false, found text",
        ),
        (
            MODEL + "concurrency: queued",
            "spec.concurrency",
            "unknown value 'queued'; did you mean 'queue'?",
        ),
        (MODEL + "tools: [{timeout: 3}]", "spec.tools[0].name", "is missing"),
        (
            MODEL + "tools: [calculator, calculator]",
            "spec",
            "the tool 'calculator' is listed twice",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_path_and_what_was_expected(spec, field, says):
    assert wrong(spec)[field] == says


def test_a_path_is_the_one_that_the_user_wrote():
    found = wrong("model: {primary: {provider: x}, fallback: {source: 3}}")
    assert list(found) == ["spec.model.fallback.source"]


def test_two_spellings_of_one_key_contradict_each_other():
    found = wrong(MODEL + "memory: {conversational: {window_size: 3, max_turns: 4}}")
    assert found == {
        "spec.memory.conversational.window_size": (
            "means the same as spec.memory.conversational.max_turns; keep one of them"
        )
    }


def test_no_value_of_a_free_text_is_shown():
    assert "12345" not in message(text("model: {primary: {provider: x, api_key: 12345}}"))


@pytest.mark.parametrize("name", ["Support", "9lives", "a b", "a" * 64, "", "ä"])
def test_a_name_that_no_path_could_carry_is_refused(name):
    assert "metadata.name" in violations(text(MODEL, f'{{name: "{name}"}}'))


class TestTheEnvelope:
    def test_a_wrong_version_is_told_with_the_right_one(self):
        found = violations(text(MODEL).replace("astromesh/v1", "astromech/v1"))
        assert found == {
            "apiVersion": (
                "expected 'astromesh/v1', found 'astromech/v1'; did you mean 'astromesh/v1'?"
            )
        }

    def test_a_wrong_kind_is_told_and_nothing_else(self):
        found = violations(text(MODEL + "zzz: 1").replace("kind: Agent", "kind: ProviderConfig"))
        assert found == {"kind": "expected 'Agent', found 'ProviderConfig'"}

    def test_something_else_altogether_is_no_manifest(self):
        assert violations("- 1") == {
            "": "expected a mapping with apiVersion, kind, metadata and spec, found a list"
        }


class TestVariables:
    def test_are_expanded_after_parsing(self):
        assert agent(MODEL + "prompts: {system: '${X}'}", X="a: [").spec.prompts.system == "a: ["

    def test_fall_back_on_their_default_when_unset_or_empty(self):
        spec = MODEL + "prompts: {system: '${X:-hello}'}"
        assert agent(spec).spec.prompts.system == agent(spec, X="").spec.prompts.system == "hello"

    def test_a_missing_one_is_named_with_its_field(self):
        found = wrong(MODEL + "prompts: {system: '${WHO}'}")
        assert found["spec.prompts.system"].startswith("environment variable WHO is not set")

    def test_may_stand_for_numbers(self):
        spec = MODEL + "orchestration: {max_iterations: '${N}', timeout: '${T:-1.5}'}"
        orchestration = agent(spec, N="7").spec.orchestration
        assert (orchestration.max_iterations, orchestration.timeout_seconds) == (7, 1.5)

    def test_that_are_no_number_are_refused_where_one_is_expected(self):
        spec = MODEL + "orchestration: {max_iterations: '${N}'}"
        assert "spec.orchestration.max_iterations" in wrong(spec, N="many")

    def test_two_dollars_stand_for_the_plain_text(self):
        assert agent(MODEL + "prompts: {system: '$${X}'}").spec.prompts.system == "${X}"
