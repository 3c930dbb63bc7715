"""What each type of rule does to a text."""

import json

import pytest

from servers.domain.run_events import Guarded
from servers.domain.runs import Block, Direction
from tests.unit.guardrails.ruling import rule, rules

IN, OUT = Direction.INPUT, Direction.OUTPUT
ARGUMENTS, RESULT = Direction.TOOL_ARGUMENTS, Direction.TOOL_RESULT
PII = rule("pii_detection")


def kept(text: str, *written, direction: Direction = OUT) -> str:
    return rules(*written).check(text, direction).text


class TestRules:
    def test_apply_in_the_order_in_which_they_are_written(self):
        cut = rule("max_length", max_chars=10)
        assert kept("ask ada@example.com", PII, cut) == "ask [EMAIL"
        assert kept("ask ada@example.com", cut, PII) == "ask ada@ex"

    def test_stop_at_the_first_that_blocks(self):
        first = rule("topic_filter", message="first", topics=["drugs"])
        second = rule("content_filter", message="second", keywords=["drugs"])
        checked = rules(first, second).check("drugs", IN)
        assert checked.block == Block("topic_filter", IN, "first")
        assert [report.rule for report in checked.reports] == ["topic_filter"]

    def test_that_block_give_no_text(self):
        assert rules(rule("pii_detection", "block")).check("so: 10.0.0.1", OUT).text == ""

    def test_that_warn_change_nothing(self):
        checked = rules(rule("pii_detection", "warn")).check("ada@example.com", OUT)
        assert checked.text == "ada@example.com"
        assert checked.reports == (Guarded("pii_detection", OUT, "warn", 1),)

    def test_report_how_often_they_applied_and_never_the_text(self):
        checked = rules(PII).check("ada@example.com or 10.0.0.1", OUT)
        assert checked.reports == (Guarded("pii_detection", OUT, "redact", 2),)

    def test_that_did_not_apply_report_nothing(self):
        assert rules(PII).check("hello", OUT).reports == ()

    def test_see_what_those_before_them_left(self):
        keyword = rule("content_filter", keywords=["ada@example.com"])
        assert rules(PII, keyword).check("ada@example.com", OUT).block is None


class TestPii:
    def test_is_replaced_by_its_kind(self):
        text = (
            "ada@example.com, 555-123-4567, 123-45-6789, 4111 1111 1111 1111, "
            "DE89 3704 0044 0532 0130 00, 10.0.0.1"
        )
        assert kept(text, PII) == "[EMAIL], [PHONE], [SSN], [CREDIT_CARD], [IBAN], [IP]"

    def test_may_be_of_some_kinds_only(self):
        text = "ada@example.com 10.0.0.1"
        assert kept(text, rule("pii_detection", entities=["ip"])) == "ada@example.com [IP]"


class TestTopics:
    @pytest.mark.parametrize(
        "text",
        [
            "Let us talk about Politics!",
            "POLITICS",
            "politics.",
            "*politics*",
            "self harm",
            "Self-Harm",
            "self\u2011harm",
            "self\n  harm",
            "die straße ist lang",
            "STRASSE",
            "cafe\u0301",
            "我们谈毒品吧",
            "\uff50\uff4f\uff4c\uff49\uff54\uff49\uff43\uff53",  # full width
        ],
        ids=ascii,
    )
    def test_are_found_as_words(self, text):
        topics = rule("topic_filter", topics=["politics", "self-harm", "Straße", "café", "毒品"])
        assert rules(topics).check(text, IN).block

    @pytest.mark.parametrize(
        "text", ["geopolitics", "politicsy", "self", "self and harm", "harm self", "straßen", "毒"]
    )
    def test_are_not_found_in_parts_of_words(self, text):
        topics = rule("topic_filter", topics=["politics", "self-harm", "Straße", "毒品"])
        assert rules(topics).check(text, IN).block is None

    def test_can_be_redacted(self):
        topics = rule("topic_filter", "redact", topics=["red", "red wine", "wine bar"])
        assert kept("a red wine bar, a red car", topics) == "a [REDACTED], a [REDACTED] car"


class TestContent:
    @pytest.mark.parametrize("text", ["a BOMB", "bombs", "firebomb", "Bomb!"])
    def test_keywords_are_found_wherever_they_stand(self, text):
        assert rules(rule("content_filter", keywords=["bomb"])).check(text, OUT).block

    def test_keywords_are_no_patterns(self):
        assert kept("axb", rule("content_filter", "redact", keywords=["a.b"])) == "axb"

    def test_patterns_are_found(self):
        secret = rule("content_filter", "redact", patterns=[r"sk-[a-z0-9]{8}", r"(?i)\bpin \d+"])
        assert kept("sk-abcd1234 PIN 007.", secret) == "[REDACTED] [REDACTED]."

    def test_what_overlaps_is_redacted_as_one(self):
        found = rule("content_filter", "redact", keywords=["bad", "adword"], patterns=["wor.s?"])
        assert kept("a badwords b", found) == "a [REDACTED] b"

    def test_halves_of_surrogate_pairs_are_no_trouble(self):
        found = rule("content_filter", "redact", keywords=["bad"], patterns=["x"])
        assert kept("\ud83d bad x", found) == "\ud83d [REDACTED] [REDACTED]"

    def test_a_hostile_pattern_takes_linear_time(self):
        hostile = rule("content_filter", patterns=["(a+)+$", "(a|aa)+b"])
        assert rules(hostile).check("a" * 50_000 + "!", OUT).block is None


class TestLength:
    def test_is_cut(self):
        checked = rules(rule("max_length", max_chars=3)).check("äöüß", OUT)
        assert checked.text == "äöü"
        assert checked.reports == (Guarded("max_length", OUT, "redact", 1),)

    def test_at_the_limit_is_left_alone(self):
        assert rules(rule("max_length", max_chars=4)).check("äöüß", OUT).reports == ()

    def test_may_block(self):
        limit = rules(rule("max_length", "block", max_chars=3))
        assert limit.check("abcd", IN).block == Block("max_length", IN, "")
        assert limit.check("abc", IN).text == "abc"

    def test_of_what_goes_to_tools_and_comes_from_them_is_not_looked_at(self):
        assert kept("abcd", rule("max_length", max_chars=3), direction=RESULT) == "abcd"

    def test_is_looked_at_there_too_where_the_rule_says_so(self):
        limit = rule("max_length", max_chars=3, tools=True)
        assert kept("abcd", limit, direction=RESULT) == "abc"


class TestDirections:
    def test_rules_for_input_apply_to_the_query_and_to_tool_results(self):
        found = rules(PII)
        both = type(found)(input=found.input)
        assert both.check("10.0.0.1", IN).text == "[IP]"
        assert both.check("10.0.0.1", RESULT, "1.0").text == "[IP]"
        assert both.check("10.0.0.1", OUT).text == "10.0.0.1"
        assert both.check('"10.0.0.1"', ARGUMENTS).text == '"10.0.0.1"'

    def test_rules_for_output_apply_to_answers_and_to_tool_arguments(self):
        found = rules(PII)
        both = type(found)(output=found.output)
        assert both.check("10.0.0.1", OUT).text == "[IP]"
        assert both.check('"10.0.0.1"', ARGUMENTS, "1.0").text == '"[IP]"'
        assert both.check("10.0.0.1", IN).text == "10.0.0.1"
        assert both.check("10.0.0.1", RESULT).text == "10.0.0.1"

    def test_reports_name_the_call(self):
        (report,) = rules(PII).check('"10.0.0.1"', ARGUMENTS, "1.0").reports
        assert report == Guarded("pii_detection", ARGUMENTS, "redact", 1, "1.0")

    def test_a_rule_may_leave_tools_alone(self):
        alone = rule("pii_detection", tools=False)
        assert kept("10.0.0.1", alone, direction=RESULT) == "10.0.0.1"


class TestToolArguments:
    def through(self, tree, *written):
        checked = rules(*(written or [PII])).check(json.dumps(tree), ARGUMENTS)
        return json.loads(checked.text)

    def test_stay_json(self):
        tree = {"to": ["ada@example.com", {"cc": 'b "quoted" eve@example.org'}], "n": 1, "x": None}
        assert self.through(tree) == {
            "to": ["[EMAIL]", {"cc": 'b "quoted" [EMAIL]'}],
            "n": 1,
            "x": None,
        }

    def test_that_are_numbers_become_texts(self):
        assert self.through({"card": 4111111111111111, "n": 3.5, "b": True}) == {
            "card": "[CREDIT_CARD]",
            "n": 3.5,
            "b": True,
        }

    def test_with_escapes_are_read_before_they_are_checked(self):
        text = '{"to": "\\u0061da\\u0040example.com"}'
        assert rules(PII).check(text, ARGUMENTS).text == '{"to": "[EMAIL]"}'

    def test_in_keys_are_found_too(self):
        assert self.through({"ada@example.com": 1}) == {"[EMAIL]": 1}

    def test_that_nothing_applies_to_are_not_even_formatted(self):
        assert rules(PII).check('{ "a":1.50 }', ARGUMENTS).text == '{ "a":1.50 }'

    def test_that_are_no_json_are_a_text(self):
        assert rules(PII).check('{"to": ada@example.com', ARGUMENTS).text == '{"to": [EMAIL]'

    def test_nested_without_end_are_a_text(self):
        text = "[" * 100_000 + '"10.0.0.1"'
        assert rules(PII).check(text, ARGUMENTS).text == "[" * 100_000 + '"[IP]"'

    def test_are_counted_over_all_their_parts(self):
        (report,) = rules(PII).check('["10.0.0.1", "10.0.0.2 10.0.0.3"]', ARGUMENTS).reports
        assert report.count == 3

    def test_block_from_any_part(self):
        topics = rules(rule("topic_filter", topics=["drugs"]))
        checked = topics.check('{"a": {"b": ["x", "about drugs"]}}', ARGUMENTS)
        assert (checked.text, checked.block) == ("", Block("topic_filter", ARGUMENTS, ""))


class TestATextThatWasCut:
    @pytest.mark.parametrize("half", ["ada@exam", "4111 1111 11", "+1 555", "DE89 3704"])
    def test_loses_what_may_be_half_of_a_find(self, half):
        checked = rules(PII).check_beginning(f"10.0.0.1 and then {half}", RESULT, "1.0")
        assert checked.text == "[IP] and then "
        assert checked.reports == (Guarded("pii_detection", RESULT, "redact", 1, "1.0"),)

    def test_is_kept_where_its_end_is_plain(self):
        assert rules(PII).check_beginning("That is it. ", RESULT).text == "That is it. "

    def test_counts_as_whole_for_a_rule_that_holds_everything(self):
        secret = rule("content_filter", "redact", patterns=["secret.*"])
        assert rules(secret).check_beginning("a secret of", RESULT).text == "a [REDACTED]"

    def test_can_be_blocked(self):
        blocking = rules(rule("pii_detection", "block"))
        assert blocking.check_beginning("10.0.0.1 and", RESULT).block


class TestCosts:
    def limit(self, **options):
        (limit,) = rules(rule("cost_limit", **options)).costs[:1]
        return limit

    def test_are_reached_at_their_limit(self):
        assert self.limit(max_usd=0.5).reached(0.5, 0)
        assert not self.limit(max_usd=0.5).reached(0.49, 10**9)

    def test_may_be_counted_in_tokens(self):
        assert self.limit(max_tokens=100).reached(0.0, 100)
        assert not self.limit(max_tokens=100).reached(9.9, 99)

    def test_block_where_nothing_else_is_said(self):
        assert self.limit(max_usd=1).action == "block"


class TestJudges:
    def test_fail_closed_where_nothing_else_is_said(self):
        (judge,) = rules(rule("model_guard", question="Is it safe?")).judges(IN)
        assert (judge.question, judge.role, judge.passes_on_error) == (
            "Is it safe?",
            "default",
            False,
        )

    def test_look_at_queries_and_answers_alone(self):
        found = rules(rule("model_guard", question="Is it safe?"))
        assert found.judges(OUT)
        assert found.judges(RESULT) == found.judges(ARGUMENTS) == ()
