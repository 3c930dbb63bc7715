"""How pieces of text become an answer."""

import pytest

from servers.domain.chat import (
    FinishReason,
    Message,
    ReasoningPiece,
    Role,
    Sampling,
    TextPiece,
    ToolCall,
    says,
)
from servers.router.adapters.genai import markers
from servers.router.adapters.genai.answer import Answer
from servers.router.ports import Ask

HERMES, PHI, MISTRAL = markers.CALLS
HELLO = (says(Role.USER, "hello"),)


def answer(*stop: str, calling=None, messages=HELLO) -> Answer:
    return Answer(Ask("m", messages, sampling=Sampling(stop=stop)), calling)


def heard(answer: Answer, *pieces: str, end: str = "stop"):
    """What is shown of them, joined by kind where pieces of one kind follow one another."""
    shown = []
    for number, piece in enumerate(pieces, start=1):
        if not answer.ended:
            shown += answer.take(piece, number)
    if not answer.ended:
        shown += answer.end(end, len(pieces) + 1)
    joined: list[tuple[type, str]] = []
    for step in shown:
        if joined and joined[-1][0] is type(step):
            joined[-1] = type(step), joined[-1][1] + step.text
        else:
            joined.append((type(step), step.text))
    return joined


class TestAStopWord:
    @pytest.mark.parametrize("pieces", [("a END b",), ("a E", "ND b"), tuple("a END b")])
    def test_is_found_however_it_is_cut(self, pieces):
        assert heard(answer("END"), *pieces) == [(TextPiece, "a ")]

    def test_is_held_back_until_it_is_known(self):
        said = answer("END")
        assert said.take("a E", 1) == [TextPiece("a ")]
        assert said.take("N", 2) == []
        assert said.take("E", 3) == [TextPiece("EN")]  # the second E may begin another one
        assert said.end("stop", 4) == [TextPiece("E")]

    def test_that_begins_like_another_is_no_less_found(self):
        assert heard(answer("aab"), *"xaaab") == [(TextPiece, "xa")]

    def test_ends_the_count(self):
        said = answer("END")
        heard(said, "a", "END", "b")
        assert said.finish().usage.completion_tokens == 2

    def test_does_not_end_a_thought(self):
        assert heard(answer("END"), "<think>the END</think>so END it") == [
            (ReasoningPiece, "the END"),
            (TextPiece, "so "),
        ]


class TestAThought:
    @pytest.mark.parametrize(
        "pieces", [("<think>hm</think>\n\nyes",), tuple("<think>hm</think>\n\nyes")]
    )
    def test_is_no_text(self, pieces):
        assert heard(answer(), *pieces) == [(ReasoningPiece, "hm"), (TextPiece, "yes")]

    def test_may_have_begun_in_the_prompt(self):
        said = answer()
        said.begin(7, thinking=True)
        assert heard(said, "hm</think>yes") == [(ReasoningPiece, "hm"), (TextPiece, "yes")]

    def test_that_has_no_end_is_a_thought_all_the_same(self):
        said = answer()
        assert heard(said, "<think>hm", end="length") == [(ReasoningPiece, "hm")]
        assert said.finish().reason is FinishReason.LENGTH


class TestACall:
    @pytest.mark.parametrize(
        ("calling", "text"),
        [
            (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'),
            (PHI, '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]<|/tool_call|>'),
            (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]'),
            (HERMES, '<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>'),
            (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\":1}"}</tool_call>'),
        ],
    )
    def test_is_no_text(self, calling, text):
        said = answer(calling=calling)
        assert heard(said, *text) == []
        assert said.finish().tool_calls == (ToolCall("call_0", "f", '{"a":1}'),)
        assert said.finish().reason is FinishReason.TOOL_CALLS

    def test_may_be_one_of_several(self):
        one = '<tool_call>{"name": "f"}</tool_call>'
        said = answer(calling=HERMES)
        assert heard(said, "I look.\n" + one + "\n" + one) == [(TextPiece, "I look.\n")]
        assert [call.id for call in said.finish().tool_calls] == ["call_0", "call_1"]

    def test_of_a_list_has_an_id_of_its_own(self):
        said = answer(calling=MISTRAL)
        heard(said, '[TOOL_CALLS][{"name": "f"}, {"name": "g"}]')
        assert [(c.id, c.name, c.arguments) for c in said.finish().tool_calls] == [
            ("call_0", "f", "{}"),
            ("call_1", "g", "{}"),
        ]

    def test_has_an_id_that_is_new_in_the_conversation(self):
        earlier = Message(Role.ASSISTANT, tool_calls=(ToolCall("call_0", "f", "{}"),))
        said = answer(calling=HERMES, messages=(*HELLO, earlier))
        heard(said, '<tool_call>{"name": "f"}</tool_call>')
        assert said.finish().tool_calls[0].id == "call_1"

    @pytest.mark.parametrize("text", ["<tool_call>f(1)</tool_call>", "<tool_call>[1]</tool_call>"])
    def test_that_is_none_is_shown(self, text):
        said = answer(calling=HERMES)
        assert heard(said, *text) == [(TextPiece, text)]
        assert said.finish().reason is FinishReason.STOP

    def test_that_was_cut_off_is_shown(self):
        said = answer(calling=HERMES)
        text = '<tool_call>{"name": "f", "argu'
        assert heard(said, *text, end="length") == [(TextPiece, text)]

    def test_is_text_where_nobody_offered_tools(self):
        text = '<tool_call>{"name": "f"}</tool_call>'
        assert heard(answer(), *text) == [(TextPiece, text)]


@pytest.mark.parametrize(
    ("template", "pair"),
    [
        ("{{ tools }} <tool_call>", HERMES),
        ("{{ tools }} <|tool_call|>", PHI),
        ("{{ tools }} [TOOL_CALLS]", MISTRAL),
        ("{{ tools }} in words of its own", None),
        ("<tool_call> without a place for them", None),
    ],
)
def test_how_calls_are_written_shows_in_the_template(template, pair):
    assert markers.of_template(template) is pair
