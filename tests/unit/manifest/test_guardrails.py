"""spec.guardrails: what is wrong with a rule is said when it is loaded, by place and name."""

import pytest

from servers.agents.manifest import Agent
from servers.agents.manifest.guardrails import action_of, options_of
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import load
from tests.unit.manifest.reading import MODEL, text


def loaded(rule: str, side: str = "output") -> Agent:
    spec = f"{MODEL}guardrails: {{{side}: [{{type: pii_detection}}, {rule}]}}"
    (agent,) = load(Agent, text(spec), "a.agent.yaml", {})
    return agent


def read(rule: str):
    return loaded(rule).spec.guardrails.output[1]


def wrong(rule: str, side: str = "output") -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        loaded(rule, side)
    return {each.field: each.description for each in caught.value.violations}


PLACE = "spec.guardrails.output[1]"


class TestARule:
    @pytest.mark.parametrize(
        ("rule", "action"),
        [
            ("{type: pii_detection}", "redact"),
            ("{type: topic_filter, topics: [x]}", "block"),
            ("{type: content_filter, keywords: [x]}", "block"),
            ("{type: max_length, max_chars: 1}", "redact"),
            ("{type: cost_limit, max_usd: 0.5}", "block"),
            ("{type: model_guard, question: Is it safe?}", "block"),
            ("{type: pii_detection, action: warn}", "warn"),
        ],
    )
    def test_has_the_action_that_suits_its_type_where_none_is_named(self, rule, action):
        assert action_of(read(rule)) == action

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("{type: pii_redaction}", "{type: pii_detection}"),
            (
                "{type: max_length, max_characters: 9}",
                "{type: max_length, options: {max_chars: 9}}",
            ),
            (
                "{type: max_length, action: truncate, max_chars: 9}",
                "{type: max_length, action: redact, max_chars: 9}",
            ),
            ("{type: topic_filter, blocked_topics: x}", "{type: topic_filter, topics: [x]}"),
            (
                "{type: content_filter, forbidden_keywords: [x]}",
                "{type: content_filter, keywords: [x]}",
            ),
            (
                "{type: content_filter, blocked_patterns: x}",
                "{type: content_filter, patterns: [x]}",
            ),
            ("{type: cost_limit, max_tokens_per_turn: 9}", "{type: cost_limit, max_tokens: 9}"),
            ("{type: pii_detection, entities: EMAIL}", "{type: pii_detection, entities: [email]}"),
            (
                "{type: pii_detection, entities: [PHONE_NUMBER]}",
                "{type: pii_detection, entities: [phone]}",
            ),
        ],
    )
    def test_may_be_spelled_otherwise(self, written, meant):
        assert read(written) == read(meant)

    def test_shows_what_it_means(self):
        rule = read("{type: topic_filter, blocked_topics: [x], message: No.}")
        assert options_of(rule).topics == ("x",)
        assert rule.message == "No."


class TestAFaultyRule:
    @pytest.mark.parametrize(
        ("rule", "field", "says"),
        [
            ("{type: pii_detektion}", "type", "did you mean 'pii_detection'?"),
            ("{type: zzz}", "type", "known are pii_detection"),
            ("{type: pii_detection, action: blok}", "action", "did you mean 'block'?"),
            (
                "{type: cost_limit, action: redact, max_usd: 1}",
                "action",
                "can't redact; its actions are block, warn",
            ),
            ("{type: pii_detection, entites: [email]}", "entites", "did you mean 'entities'?"),
            ("{type: pii_detection, entities: [emial]}", "entities[0]", "did you mean 'email'?"),
            ("{type: pii_detection, entities: []}", "entities", "at least 1"),
            ("{type: topic_filter}", "options.topics", "is missing"),
            ("{type: topic_filter, topics: []}", "topics", "at least 1"),
            ("{type: topic_filter, topics: ['']}", "topics[0]", "at least 1"),
            ("{type: topic_filter, topics: ['c++']}", "topics", "has more than words in it"),
            ("{type: topic_filter, topics: [' - ']}", "topics", "has no word in it"),
            (
                "{type: content_filter}",
                "options",
                "looks for nothing; add `keywords` or `patterns`",
            ),
            ("{type: content_filter, keywords: []}", "keywords", "at least 1"),
            (
                "{type: content_filter, patterns: ['a(b']}",
                "patterns",
                "'a(b' doesn't compile: missing ): a(b",
            ),
            ("{type: content_filter, patterns: ['(?=a)']}", "patterns", "doesn't compile"),
            ("{type: content_filter, patterns: ['a*']}", "patterns", "matches the empty text"),
            ("{type: max_length}", "options.max_chars", "is missing"),
            ("{type: max_length, max_chars: 0}", "max_chars", "greater than or equal to 1"),
            ("{type: max_length, max_chars: -3}", "max_chars", "greater than or equal to 1"),
            ("{type: max_length, max_chars: many}", "max_chars", "a whole number"),
            ("{type: cost_limit}", "options", "limits nothing; add `max_usd` or `max_tokens`"),
            ("{type: cost_limit, max_usd: 0}", "max_usd", "greater than 0"),
            ("{type: model_guard}", "options.question", "is missing"),
            ("{type: model_guard, question: q, role: jduge}", "role", "model.roles has no 'jduge'"),
            ("{type: model_guard, question: q, on_error: pas}", "on_error", "did you mean 'pass'?"),
            ("{action: block}", "type", "is missing"),
        ],
    )
    def test_is_named_by_its_place(self, rule, field, says):
        assert says in wrong(rule)[f"{PLACE}.{field}"]

    def test_is_found_among_the_rules_for_input_too(self):
        assert list(wrong("{type: max_length}", "input")) == [
            "spec.guardrails.input[1].options.max_chars"
        ]

    def test_does_not_hide_another(self):
        assert len(wrong("{type: max_length, max_chars: 0}, {type: x}")) == 2
