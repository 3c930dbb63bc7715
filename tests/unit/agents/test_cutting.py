"""What is left out of a conversation that is too long."""

import re

from hypothesis import given
from hypothesis import strategies as st

from servers.agents.runs.cutting import Cutting
from servers.domain.chat import Message, Role, Text, ToolCall, says

SYSTEM, QUESTION = says(Role.SYSTEM, "be brief"), says(Role.USER, "and now?")


def turn(text):
    return says(Role.USER, text), says(Role.ASSISTANT, text)


def step(name, *results):
    """A round of tool calls and what came of them."""
    calls = tuple(ToolCall(f"{name}{n}", name, "{}") for n, _ in enumerate(results))
    answers = [
        Message(Role.TOOL, (Text(text),), tool_call_id=call.id)
        for call, text in zip(calls, results, strict=True)
    ]
    return Message(Role.ASSISTANT, (), calls), *answers


def cut(messages, tokens, rate=1.0):
    cutting = Cutting(messages, rate)
    cutting.spare(tokens)
    return cutting.result()


class TestToolResults:
    TALK = (SYSTEM, *turn("hi"), QUESTION, *step("a", "x" * 1000), *step("b", "y" * 1000))

    def test_are_cut_first_and_the_oldest_one_before_the_others(self):
        found = cut(self.TALK, 500)
        assert [m.role for m in found] == [m.role for m in self.TALK]
        assert (len(found[5].text) < 520, found[7]) == (True, self.TALK[7])

    def test_say_how_much_is_missing(self):
        found = cut(self.TALK, 250, rate=0.5)[5].text
        missing = int(re.search(r"\n\[\.\.\. (\d+) tokens cut\]$", found)[1])
        kept = found.index("\n")
        assert missing == (1000 - kept) / 2

    def test_are_left_out_wholly_where_hardly_anything_would_be_left(self):
        assert cut(self.TALK, 900)[5].text == "[... 1000 tokens cut]"

    def test_are_cut_again_where_that_was_not_enough(self):
        cutting = Cutting(self.TALK, 1.0)
        cutting.spare(200)
        cutting.spare(200)
        missing = re.search(r"(\d+) tokens", cutting.result()[5].text)[1]
        assert 400 <= int(missing) <= 450


class TestTurns:
    TALK = (SYSTEM, *turn("a" * 99), *turn("b" * 99), QUESTION, *step("t", "x"), *step("u", "y"))

    def test_go_as_a_whole_and_the_oldest_first(self):
        assert cut(self.TALK, 100) == (SYSTEM, *self.TALK[3:])

    def test_go_before_what_was_done_for_the_question(self):
        assert cut(self.TALK, 390) == (SYSTEM, QUESTION, *self.TALK[-4:])

    def test_leave_the_question_and_what_was_done_last(self):
        cutting = Cutting(self.TALK, 1.0)
        assert cutting.spare(10_000)
        assert cutting.result() == (SYSTEM, QUESTION, *self.TALK[-2:])
        assert not cutting.spare(1)
        assert cutting.told == "the oldest 6 messages"


texts = st.text(max_size=600)
turns = st.lists(texts.map(turn), max_size=4)
steps = st.lists(st.lists(texts, min_size=1, max_size=3).map(lambda r: step("t", *r)), max_size=4)


@given(turns, steps, st.lists(st.integers(1, 3000), min_size=1, max_size=5), st.floats(0.1, 2))
def test_whatever_is_cut_a_model_can_read_the_rest(before, since, excesses, rate):
    talk = (SYSTEM, *(m for t in before for m in t), QUESTION, *(m for s in since for m in s))
    cutting = Cutting(talk, rate)
    for excess in excesses:
        cutting.spare(excess)
    found = cutting.result()
    assert (found[0], QUESTION in found) == (SYSTEM, True)
    open_calls = []
    for message in found:
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert open_calls == []
            open_calls = [call.id for call in message.tool_calls]
    assert open_calls == []
    if since:
        assert found[-1].tool_call_id == talk[-1].tool_call_id
