"""What is asked, as the worker of a model folder is told it."""

import json

import pytest

from servers.domain.chat import Message, Role, Sampling, Text, ToolCall, ToolSpec, says
from servers.router.adapters.genai.request import MOST_TOKENS, chat
from servers.router.ports import Ask

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})


def job(*messages: Message, tools=(), output_schema=None, **sampling):
    said = messages or (says(Role.USER, "hello"),)
    return chat(Ask("m", said, tools, Sampling(**sampling), output_schema=output_schema))


class TestSampling:
    def test_says_nothing_that_was_not_said(self):
        assert (job()["search"], job()["limit"]) == ({}, MOST_TOKENS)

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ({"temperature": 0}, {"do_sample": False}),
            ({"temperature": 1}, {"do_sample": True, "temperature": 1.0}),
            ({"temperature": 0, "top_p": 0.5}, {"do_sample": False, "top_p": 0.5}),
            ({"top_p": 1}, {"do_sample": True, "top_p": 1.0}),
            ({"extra": {"top_k": 3.0}}, {"do_sample": True, "top_k": 3}),
            ({"extra": {"top_k": 0}}, {"do_sample": True, "top_k": 0, "top_p": 1.0}),
            ({"extra": {"repetition_penalty": 2}}, {"repetition_penalty": 2.0}),
            ({"seed": -1}, {"random_seed": 2**31 - 1}),
        ],
    )
    def test_is_told_in_the_package_s_words(self, said, told):
        search = job(**said)["search"]
        assert search == told
        assert {name: type(value) for name, value in search.items()} == {
            name: type(value) for name, value in told.items()
        }  # the package tells whole numbers from others


class TestMessages:
    def test_have_the_arguments_of_calls_as_objects(self):
        call = ToolCall("call_0", "weather", '{"city": "Rome"}')
        talk = (
            says(Role.USER, "weather?"),
            Message(Role.ASSISTANT, tool_calls=(call,), reasoning="I must look"),
            Message(Role.TOOL, (Text("sunny"),), tool_call_id="call_0"),
        )
        _, calling, result = job(*talk)["messages"]
        assert calling["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
        assert calling["reasoning_content"] == "I must look"
        assert result == {"role": "tool", "content": "sunny", "tool_call_id": "call_0"}

    def test_show_broken_arguments_as_they_were(self):
        call = ToolCall("call_0", "weather", '{"city":')
        (said,) = job(Message(Role.ASSISTANT, tool_calls=(call,)))["messages"]
        function = said["tool_calls"][0]["function"]
        assert function["arguments"] == {"broken_json": '{"city":'}


class TestASchema:
    SCHEMA = {"type": "object", "x-guidance": {"coerce_one_of": False}}  # noqa: RUF012

    def guidance(self, **more):
        return json.loads(job(**more)["schema"])["x-guidance"]

    def test_leaves_no_room_for_endless_blanks(self):
        assert self.guidance(output_schema={"type": "object"})["whitespace_pattern"] == "[ ]?"

    def test_may_say_itself_how_it_is_read(self):
        assert self.guidance(output_schema=self.SCHEMA)["coerce_one_of"] is False

    def test_that_the_router_does_not_check_must_be_understood_as_a_whole(self):
        wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
        assert self.guidance(output_schema={"type": "object"})["lenient"] is True
        assert "lenient" not in self.guidance(extra={"response_format": wanted})

    def test_goes_before_a_response_format(self):
        told = job(output_schema={"const": 1}, extra={"response_format": {"type": "json_object"}})
        assert json.loads(told["schema"])["const"] == 1

    def test_is_not_told_beside_tools(self):
        assert job(tools=(WEATHER,), output_schema={"type": "object"})["schema"] == ""
