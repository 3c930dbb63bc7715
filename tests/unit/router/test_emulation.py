"""Tools in words: what models without tool calls are told, and what is made of their answers."""

import json
from collections.abc import AsyncGenerator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.domain.chat import (
    Completion,
    Finish,
    FinishReason,
    Image,
    Message,
    ReasoningPiece,
    Role,
    Step,
    Text,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
    says,
)
from servers.domain.models import Capabilities
from servers.kernel.json_schema import JsonSchema
from servers.router.chats import retelling
from servers.router.chats.emulation import Emulating, Instructed, fitting
from servers.router.chats.gathering import Gathering
from servers.router.chats.loosening import loosened, loosened_object
from servers.router.ports import Ask

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("weather", "Tells the weather.", CITY)
TIME = ToolSpec("time", "Tells the time.", {"type": "object", "properties": {}})
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
HELLO = says(Role.USER, "hello")


def ask(*messages: Message, tools=(WEATHER, TIME), **more) -> Ask:
    return Ask("m", messages or (HELLO,), tools, **more)


class Saying:
    """A provider that says one thing, and keeps what it was asked."""

    endpoint = "said:"

    def __init__(self, text: str, **finish) -> None:
        self.text, self.finish = text, Finish(usage=Usage(7, 2), **finish)
        self.asked: Ask

    async def complete(self, ask: Ask) -> Completion:
        self.asked = ask
        parts = (Text(self.text),)
        return Completion(Message(Role.ASSISTANT, parts, reasoning="hm"), self.finish)

    async def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        self.asked = ask
        yield ReasoningPiece("hm")
        for piece in self.text:
            yield TextPiece(piece)
        yield self.finish

    async def health(self, api_key: str) -> None:
        pass

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(tools=False)


async def whole(provider, ask: Ask) -> Completion:
    return await provider.complete(ask)


async def streamed(provider, ask: Ask) -> Completion:
    heard = Gathering()
    async for step in provider.stream(ask):
        heard.take(step)
    return heard.whole()


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def answered(request):
    async def answered(text: str, asked: Ask | None = None, **finish) -> Completion:
        return await request.param(Emulating(Saying(text, **finish)), asked or ask())

    return answered


class TestAnAnswer:
    async def test_becomes_a_tool_call(self, answered):
        said = await answered('{"tool": "weather", "arguments": {"city": "Rome"}}')
        assert said.finish.tool_calls == (ToolCall("call_1", "weather", '{"city":"Rome"}'),)
        assert said.message.tool_calls == said.finish.tool_calls
        assert (said.message.text, said.message.reasoning) == ("", "hm")
        assert said.finish.reason is FinishReason.TOOL_CALLS

    async def test_becomes_text(self, answered):
        said = await answered('{"answer": "It is sunny."}')
        assert (said.message.text, said.finish.tool_calls) == ("It is sunny.", ())
        assert said.finish.reason is FinishReason.STOP

    async def test_is_marked_as_emulated(self, answered):
        for text in ('{"answer": "x"}', '{"tool": "time"}', "no JSON"):
            said = await answered(text)
            assert (said.finish.emulated, said.finish.usage) == (True, Usage(7, 2))

    async def test_without_json_is_text(self, answered):
        assert (await answered("It is sunny.")).message.text == "It is sunny."

    async def test_that_is_some_other_object_is_text(self, answered):
        assert (await answered('{"weather": 1}')).message.text == '{"weather": 1}'

    async def test_with_words_around_its_call_is_a_call(self, answered):
        said = await answered('Let me see.\n```json\n{"tool": "time", "arguments": {}}\n```')
        assert said.finish.tool_calls == (ToolCall("call_1", "time", "{}"),)

    async def test_that_calls_an_unknown_tool_stays_a_call(self, answered):
        said = await answered('{"tool": "wether", "arguments": {}}')
        assert said.finish.tool_calls[0].name == "wether"

    async def test_that_calls_without_arguments_has_none(self, answered):
        assert (await answered('{"tool": "time"}')).finish.tool_calls[0].arguments == "{}"

    @pytest.mark.parametrize(
        ("cut", "text"),
        [
            ('{"answer": "It is su', "It is su"),
            ('{\n  "answer": "Say \\"hi', 'Say "hi'),
            ('{"answer": "A line\\', "A line"),
            ('{"answer": "\\u00', ""),
            ('{"answer": "\\ud83d\\ude0', ""),
            ('{"answer": "', ""),
            ('{"answ', '{"answ'),
            ('{"tool": "weather", "argum', '{"tool": "weather", "argum'),
        ],
    )
    async def test_that_was_cut_off_is_the_text_that_there_is(self, answered, cut, text):
        said = await answered(cut, reason=FinishReason.LENGTH)
        assert (said.message.text, said.finish.reason) == (text, FinishReason.LENGTH)

    async def test_of_a_wanted_form_is_its_json(self, answered):
        said = await answered('{"answer": {"age": 3}}', ask(output_schema=PERSON))
        assert said.message.text == '{"age":3}'

    async def test_numbers_its_call_on_in_the_conversation(self, answered):
        calls = (ToolCall("call_1", "time", "{}"), ToolCall("call_3", "time", "{}"))
        said = await answered(
            '{"tool": "time"}', ask(HELLO, Message(Role.ASSISTANT, tool_calls=calls))
        )
        assert said.finish.tool_calls[0].id == "call_4"


async def test_a_stream_holds_text_back_and_shows_thoughts_at_once():
    said = [step async for step in Emulating(Saying('{"answer": "hi"}')).stream(ask())]
    assert said[:-1] == [ReasoningPiece("hm"), TextPiece("hi")]


class TestWhatAModelIsAsked:
    async def test_has_no_tools_but_a_schema_of_calls_and_answers(self):
        provider = Saying("")
        await Emulating(provider).complete(ask())
        schema = JsonSchema(provider.asked.output_schema)
        assert provider.asked.tools == ()
        assert schema.faults({"answer": "x"}) == []
        assert schema.faults({"tool": "weather", "arguments": {"city": "x"}}) == []
        assert schema.faults({"tool": "wether", "arguments": {"city": "x"}}) != []
        assert schema.faults({"tool": "weather", "arguments": {"city": 1}}) != []
        assert schema.faults({"tool": "weather"}) != []

    async def test_tells_of_every_tool(self):
        provider = Saying("")
        await Emulating(provider).complete(ask())
        system, hello = provider.asked.messages
        for word in ("weather", "Tells the weather.", '"city"', "Tells the time.", '{"tool": '):
            assert word in system.text
        assert (system.role, hello) == (Role.SYSTEM, HELLO)

    async def test_has_one_system_message_in_the_first_place(self):
        provider = Saying("")
        await Emulating(provider).complete(ask(says(Role.SYSTEM, "Be kind."), HELLO))
        system, *rest = provider.asked.messages
        assert system.text.startswith("Be kind.\n\n")
        assert [each.role for each in rest] == [Role.USER]

    async def test_has_the_wanted_form_as_the_form_of_answers(self):
        provider = Saying("")
        await Emulating(provider).complete(ask(output_schema=PERSON))
        schema = JsonSchema(provider.asked.output_schema)
        assert schema.faults({"answer": {"age": 3}}) == []
        assert schema.faults({"answer": "x"}) != []
        assert orjson.dumps(PERSON).decode() in provider.asked.messages[0].text

    async def test_tells_results_as_the_users_words(self):
        calls = (ToolCall("c1", "weather", '{"city":"Rome"}'), ToolCall("c2", "time", "{"))
        talk = (
            HELLO,
            Message(Role.ASSISTANT, (Text("Let me see."),), calls, reasoning="hm"),
            Message(Role.TOOL, (Text("sunny"),), tool_call_id="c1"),
            Message(Role.TOOL, (Text("noon"),), tool_call_id="c2"),
        )
        assert list(retelling.retold(talk)) == [
            HELLO,
            Message(
                Role.ASSISTANT,
                (
                    Text(
                        'Let me see.\n{"tool":"weather","arguments":{"city":"Rome"}}\n'
                        '{"tool":"time","arguments":{"broken_json":"{"}}'
                    ),
                ),
                reasoning="hm",
            ),
            says(Role.USER, "Result of weather (c1):\nsunny\n\nResult of time (c2):\nnoon"),
        ]

    async def test_retells_calls_also_where_no_tools_are_offered(self):
        provider = Saying('{"age": 3}')
        call = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "time", "{}"),))
        result = Message(Role.TOOL, (Text("noon"),), tool_call_id="c1")
        asked = ask(HELLO, call, result, tools=(), output_schema=PERSON)
        for heard in (whole, streamed):
            said = await heard(Emulating(provider), asked)
            assert (said.message.text, said.finish.emulated) == ('{"age": 3}', False)
        assert [m.role for m in provider.asked.messages] == [Role.USER, Role.ASSISTANT, Role.USER]
        assert provider.asked.output_schema == PERSON

    def test_keeps_pictures(self):
        picture = Image(url="https://x.test/a.png")
        said = Message(Role.ASSISTANT, (picture,), (ToolCall("c1", "time", "{}"),))
        assert next(retelling.retold([said])).parts[0] == picture


class TestASchemaInWords:
    @pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
    def asked(self, request):
        async def asked(able: Capabilities, **more) -> Ask:
            provider, wanted = Saying("{}"), ask(**{"tools": (), "output_schema": PERSON, **more})
            await request.param(fitting(provider, able, wanted), wanted)
            return provider.asked

        return asked

    async def test_goes_into_the_system_message_and_nowhere_else(self, asked):
        sent = await asked(Capabilities(json_schema=False))
        assert sent.output_schema is None
        assert orjson.dumps(PERSON).decode() in sent.messages[0].text

    async def test_goes_there_too_where_tools_may_keep_it_from_being_sent(self, asked):
        sent = await asked(Capabilities(tools=True, json_schema=True), tools=(WEATHER,))
        assert (sent.output_schema, sent.tools) == (PERSON, (WEATHER,))
        assert orjson.dumps(PERSON).decode() in sent.messages[0].text

    async def test_is_left_out_where_it_is_sent(self, asked):
        assert await asked(Capabilities(json_schema=True)) == ask(tools=(), output_schema=PERSON)


class TestTheFittingProvider:
    provider = Saying("")

    def of(self, able: Capabilities, asked: Ask) -> list[type]:
        found, kinds = fitting(self.provider, able, asked), []
        while found is not self.provider:
            kinds.append(type(found))
            found = found.provider
        return kinds

    @pytest.mark.parametrize("able", [Capabilities(), Capabilities(tools=True, json_schema=True)])
    def test_is_the_one_it_is_where_nothing_is_lacking(self, able):
        assert self.of(able, ask()) == []
        assert self.of(able, ask(tools=(), output_schema=PERSON)) == []

    def test_emulates_tools_where_there_are_none(self):
        assert self.of(Capabilities(tools=False), ask()) == [Emulating]

    def test_does_not_where_none_are_wanted(self):
        assert self.of(Capabilities(tools=False), ask(tools=())) == []

    def test_retells_calls_of_the_conversation(self):
        call = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "time", "{}"),))
        assert self.of(Capabilities(tools=False), ask(HELLO, call, tools=())) == [Emulating]

    def test_tells_a_schema_in_words_where_it_can_not_be_sent(self):
        asked = ask(tools=(), output_schema=PERSON)
        assert self.of(Capabilities(json_schema=False), asked) == [Instructed]

    def test_tells_the_schema_of_emulated_tools_in_words_too(self):
        able = Capabilities(tools=False, json_schema=False)
        assert self.of(able, ask()) == [Emulating, Instructed]

    def test_sends_native_tools_without_a_schema(self):
        assert self.of(Capabilities(tools=True, json_schema=False), ask()) == []


names = st.text("abcdefghijk_", min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(names, st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_what_goes_in_as_a_call_comes_back_as_the_same_call(name, arguments):
    call = ToolCall("c", name, json.dumps(arguments))
    again = retelling.understood(retelling.told(call), "c")
    assert isinstance(again, ToolCall)
    assert (again.id, again.name, json.loads(again.arguments)) == ("c", name, arguments)


@given(st.text(max_size=50))
def test_an_answer_comes_back_as_the_same_text(text):
    assert retelling.understood(json.dumps({"answer": text}), "c") == text


@given(st.text(max_size=50), st.integers(0, 80))
def test_an_answer_that_was_cut_is_the_beginning_of_the_text(text, at):
    written = json.dumps({"answer": text})
    cut = written[: max(12, min(at, len(written)))]
    assert text.startswith(retelling.understood(cut, "c"))


@given(st.lists(st.sampled_from(["user", "call", "result", "answer"]), max_size=12))
def test_a_retold_conversation_has_no_tools_in_it(turns):
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "time", "{}"),))
    made = {
        "user": HELLO,
        "call": call,
        "result": Message(Role.TOOL, (Text("r"),), tool_call_id="c"),
        "answer": says(Role.ASSISTANT, "a"),
    }
    retold = list(retelling.retold([made[turn] for turn in turns]))
    assert not any(said.tool_calls or said.role is Role.TOOL for said in retold)
    assert sum(said.text.count("Result of") for said in retold) == turns.count("result")
    assert sum(said.text.count('"tool"') for said in retold) == turns.count("call")


class TestALooserSchema:
    def test_has_what_its_references_mean(self):
        schema = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/n"}},
            "$defs": {"n": {"type": "integer"}},
        }
        assert loosened(schema) == {"type": "object", "properties": {"a": {"type": "integer"}}}

    def test_ends_where_references_don_t(self):
        tree = {"type": "object", "properties": {"inner": {"$ref": "#"}}}
        assert "$ref" not in json.dumps(loosened(tree))

    def test_has_no_patterns_conditions_or_long_repetitions(self):
        part = {"pattern": "^a", "maxLength": 10_000, "not": {}, "if": {}, "format": "x"}
        assert loosened({"type": "string", **part}) == {"type": "string"}

    def test_keeps_what_decoders_know(self):
        schema = {
            "type": "object",
            "properties": {
                "a": {"type": ["string", "null"], "maxLength": 5},
                "b": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1},
                "c": {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "x"}]},
            },
            "required": ["a"],
            "additionalProperties": False,
        }
        assert loosened(schema) == schema

    def test_is_small_whatever_it_was_made_of(self):
        doubling = {
            f"n{n}": {"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 8}}
            for n in range(8)
        }
        schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n0"}}, "$defs": doubling}
        assert loosened(schema) == {"type": "object"}

    @pytest.mark.parametrize("schema", [{}, {"$ref": "#"}, {"type": "array"}, {"anyOf": [{}]}])
    def test_of_arguments_is_always_that_of_an_object(self, schema):
        assert loosened_object(schema) == {"type": "object"}

    @given(st.dictionaries(names, st.sampled_from([{"type": "integer"}, {"pattern": "^x"}, {}])))
    def test_lets_through_whatever_the_stricter_one_does(self, properties):
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        value = {name: 7 if each.get("type") else "x" for name, each in properties.items()}
        assert JsonSchema(schema).faults(value) == []
        assert JsonSchema(loosened(schema)).faults(value) == []
