"""A model in a folder is a provider like any other: the promises of test_providers.py.

The model is built here, and what it says is known (tiny_causal.py); all that reads, computes
and counts is the real package, in the real worker. test_onnx_worker.py has the worker's life.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from servers.domain.chat import (
    Completion,
    FinishReason,
    Image,
    Message,
    ReasoningPiece,
    Role,
    Step,
    Text,
    TextPiece,
    ToolSpec,
    Usage,
    says,
)
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.genai.chat import OnnxChat
from servers.router.adapters.genai.request import MOST_TOKENS
from servers.router.ports import Ask
from tests.contract.onnx_fixture import PLAIN, ask, opened
from tests.contract.tiny_causal import build
from tests.contract.tiny_paged import build_paged

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = 8192
CALCULATOR = ToolSpec("calculator", "Works it out.", {"type": "object", "properties": {}})


@pytest.fixture(scope="module", params=[build, build_paged], ids=["turns", "batches"])
def folder(request, tmp_path_factory) -> Path:
    """Conversations take turns on the one, and are computed together on the other."""
    return request.param(tmp_path_factory.mktemp("models") / "tiny", window=WINDOW)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def onnx(folder) -> AsyncIterator[OnnxChat]:
    async with opened(folder) as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(tmp_path_factory) -> AsyncIterator[OnnxChat]:
    """Whose window has 64 tokens, and whose template knows of no tools."""
    folder = build(tmp_path_factory.mktemp("models") / "narrow", window=64, template=PLAIN)
    async with opened(folder) as provider:
        yield provider


async def whole(provider: OnnxChat, asked: Ask) -> Completion:
    return await provider.complete(asked)


async def streamed(provider: OnnxChat, asked: Ask) -> Completion:
    *steps, finish = [step async for step in provider.stream(asked)]
    text, thought = said(steps), said(steps, ReasoningPiece)
    parts = (Text(text),) if text else ()
    return Completion(Message(Role.ASSISTANT, parts, finish.tool_calls, reasoning=thought), finish)


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def heard(request):
    """Both ways to ask: one answer, or piece by piece."""
    return request.param


def said(steps: list[Step], kind: type = TextPiece) -> str:
    return "".join(step.text for step in steps if isinstance(step, kind))


class TestAnAnswer:
    async def test_is_what_the_model_says(self, onnx, heard):
        answer = await heard(onnx, ask("count"))
        assert answer.message.text == "one two three four five"
        assert (answer.finish.reason, answer.finish.model) == (FinishReason.STOP, "tiny")

    async def test_arrives_token_by_token(self, onnx):
        *steps, _ = [step async for step in onnx.stream(ask("greet"))]
        assert [step.text for step in steps] == ["Good", " morning", ",", " Ada", "."]

    async def test_is_never_cut_in_a_character(self, onnx):
        *steps, _ = [step async for step in onnx.stream(ask("letters"))]
        assert [step.text for step in steps] == ["\u00e9", "\U0001f98a"]

    async def test_that_ends_within_a_character_ends_before_it(self, onnx, heard):
        answer = await heard(onnx, ask("letters", max_tokens=4))  # two and two of four bytes
        assert answer.message.text == "\u00e9"

    async def test_counts_every_token_the_last_one_too(self, onnx, heard):
        answer = await heard(onnx, ask("count"))
        assert answer.finish.usage == Usage(4, 6)  # <|user|> count <|end|> <|assistant|>

    async def test_that_reached_its_limit_says_so(self, onnx, heard):
        answer = await heard(onnx, ask("count", max_tokens=3))
        assert answer.message.text == "one two three"
        assert answer.finish.reason is FinishReason.LENGTH
        assert answer.finish.usage.completion_tokens == 3

    async def test_that_ends_with_its_last_token_did_not_reach_its_limit(self, onnx, heard):
        answer = await heard(onnx, ask("count", max_tokens=6))
        assert answer.finish.reason is FinishReason.STOP

    async def test_ends_where_nobody_says_when(self, onnx):
        answer = await onnx.complete(ask("sing"))
        assert answer.finish.usage.completion_tokens == MOST_TOKENS

    async def test_keeps_thoughts_apart(self, onnx, heard):
        answer = await heard(onnx, ask("think"))
        assert (answer.message.reasoning, answer.message.text) == ("hm", "yes")

    async def test_is_to_the_whole_conversation(self, onnx, heard):
        talk = (says(Role.USER, "greet"), says(Role.ASSISTANT, "Good"), says(Role.USER, "hm?"))
        answer = await heard(onnx, ask("", messages=talk))
        assert answer.message.text == "Good morning, Ada."


class TestAStopWord:
    async def test_ends_the_answer_and_is_not_shown(self, onnx, heard):
        answer = await heard(onnx, ask("count", stop=(" three",)))
        assert answer.message.text == "one two"
        assert answer.finish.reason is FinishReason.STOP
        assert answer.finish.usage.completion_tokens == 3

    async def test_may_reach_over_several_tokens(self, onnx, heard):
        answer = await heard(onnx, ask("count", stop=("o three f",)))
        assert answer.message.text == "one tw"

    async def test_that_only_seemed_to_begin_is_shown(self, onnx, heard):
        answer = await heard(onnx, ask("count", stop=(" two four", "five!")))
        assert answer.message.text == "one two three four five"

    async def test_that_comes_first_counts(self, onnx, heard):
        answer = await heard(onnx, ask("count", stop=("four", "two", "three")))
        assert answer.message.text == "one "


class TestTools:
    async def test_are_called_in_the_model_s_own_words(self, onnx, heard):
        answer = await heard(onnx, ask("reckon", tools=(CALCULATOR,)))
        assert answer.finish.reason is FinishReason.TOOL_CALLS
        assert [(c.name, c.arguments) for c in answer.finish.tool_calls] == [
            ("calculator", '{"expression":"2+3"}')
        ]
        assert answer.message.tool_calls == answer.finish.tool_calls
        assert answer.message.text == ""

    async def test_give_their_results_back(self, onnx, heard):
        first = await heard(onnx, ask("reckon", tools=(CALCULATOR,)))
        result = Message(Role.TOOL, (Text("5"),), tool_call_id=first.message.tool_calls[0].id)
        talk = (says(Role.USER, "reckon"), first.message, result)
        answer = await heard(onnx, ask("", messages=talk, tools=(CALCULATOR,)))
        assert answer.message.text == "It is five"

    async def test_are_part_of_the_prompt(self, onnx):
        with_tools = await onnx.count_tokens(ask("count", tools=(CALCULATOR,)))
        assert with_tools > await onnx.count_tokens(ask("count")) + len(CALCULATOR.description)

    async def test_are_refused_by_a_model_that_has_no_place_for_them(self, narrow, heard):
        with pytest.raises(NotReady, match="tools") as refused:
            await heard(narrow, ask("reckon", tools=(CALCULATOR,)))
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_without_any_words_that_look_like_a_call_are_shown(self, onnx, heard):
        answer = await heard(onnx, ask("reckon"))
        assert answer.message.text.startswith("<tool_call>")
        assert answer.finish.tool_calls == ()


class TestASchema:
    SCHEMA = {  # noqa: RUF012
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["age"],
        "additionalProperties": False,
    }

    async def test_holds_the_answer(self, onnx, heard):
        answer = await heard(onnx, ask("count", output_schema=self.SCHEMA))
        assert set(json.loads(answer.message.text)) == {"age"}

    async def test_decides_even_what_the_model_would_not_say(self, onnx, heard):
        answer = await heard(onnx, ask("count", output_schema={"enum": ["yes"]}))
        assert answer.message.text == '"yes"'
        assert answer.finish.reason is FinishReason.STOP

    async def test_may_say_more_than_a_grammar_can(self, onnx, heard):
        either = {"oneOf": [{"const": "yes"}, {"enum": ["yes", "no"]}], "not": {"type": "null"}}
        answer = await heard(onnx, ask("count", output_schema=either))
        assert answer.message.text in ('"yes"', '"no"')

    async def test_may_come_in_openai_s_words(self, onnx, heard):
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": 7}}}
        answer = await heard(onnx, ask("count", extra={"response_format": wanted}))
        assert answer.message.text == "7"

    async def test_may_be_any_object(self, onnx, heard):
        wanted = {"type": "json_object"}
        answer = await heard(onnx, ask("count", max_tokens=2, extra={"response_format": wanted}))
        assert answer.message.text.startswith("{")

    async def test_that_is_none_is_refused(self, onnx, heard):
        with pytest.raises(InvalidInput, match="grammar"):
            await heard(onnx, ask("count", output_schema={"type": "nonsense"}))

    async def test_of_one_does_not_bind_another(self, onnx):
        held, free = await asyncio.gather(
            onnx.complete(ask("count", output_schema={"enum": ["yes"]})),
            onnx.complete(ask("count")),
        )
        assert (held.message.text, free.message.text) == ('"yes"', "one two three four five")


class TestSampling:
    async def face(self, onnx, **sampling) -> str:
        return (await onnx.complete(ask("dice", **sampling))).message.text

    async def test_without_temperature_takes_the_likeliest(self, onnx):
        assert {await self.face(onnx, temperature=0.0) for _ in range(5)} == {"1"}

    async def test_with_temperature_is_chance(self, onnx):
        faces = {await self.face(onnx, temperature=1.0, seed=seed) for seed in range(40)}
        assert faces >= {"1", "2", "3", "4", "5", "6"}

    async def test_with_a_seed_can_be_repeated(self, onnx):
        faces = [await self.face(onnx, temperature=1.0, seed=seed) for seed in [*range(9)] * 2]
        assert faces[:9] == faces[9:]

    async def test_with_a_seed_of_any_size_is_accepted(self, onnx):
        assert await self.face(onnx, temperature=1.0, seed=-(2**63)) in "123456"

    async def test_takes_only_the_top_k(self, onnx):
        faces = {
            await self.face(onnx, temperature=1.0, seed=n, extra={"top_k": 1.0}) for n in range(9)
        }
        assert faces == {"1"}

    async def test_takes_only_the_top_p(self, onnx):
        faces = {await self.face(onnx, temperature=1.0, top_p=0.01, seed=n) for n in range(9)}
        assert len(faces) == 1

    async def test_by_top_p_alone_is_chance(self, onnx):
        faces = {await self.face(onnx, top_p=1.0, seed=n, extra={"top_k": 0}) for n in range(40)}
        assert len(faces) == 6

    async def test_with_a_penalty_repeats_itself_less(self, onnx):
        free = await onnx.complete(ask("stutter", max_tokens=4))
        held = await onnx.complete(ask("stutter", max_tokens=4, extra={"repetition_penalty": 1.2}))
        assert (free.message.text, held.message.text[:4]) == ("babababa", "babo")

    async def test_may_want_an_answer_of_some_length(self, onnx):
        short = await onnx.complete(ask("whatever"))
        longer = await onnx.complete(ask("whatever", extra={"min_tokens": 5}, max_tokens=9))
        assert short.finish.usage.completion_tokens == 1
        assert longer.finish.usage.completion_tokens > 5

    @pytest.mark.parametrize(
        ("extra", "match"),
        [
            ({"topk": 3}, "did you mean 'top_k'"),
            ({"top_k": "many"}, "top_k"),
            ({"top_k": 2.5}, "top_k"),
            ({"repetition_penalty": -1}, "repetition_penalty"),
            ({"response_format": "json"}, "response_format"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"chat_template_kwargs": 3}, "chat_template_kwargs"),
        ],
    )
    async def test_that_is_wrong_is_refused_by_name(self, onnx, heard, extra, match):
        with pytest.raises(InvalidInput, match=match):
            await heard(onnx, ask("count", extra=extra))

    async def test_may_set_what_the_template_asks_for(self, tmp_path_factory):
        template = PLAIN + "{% if short %}" + "one two three four" + "{% endif %}"
        folder = build(tmp_path_factory.mktemp("models") / "asks", template=template)
        wanted = {"chat_template_kwargs": {"short": True}}
        async with opened(folder) as provider:
            answer = await provider.complete(ask("count", extra=wanted))
        assert answer.message.text == " five"


class TestAPrompt:
    async def test_is_counted_as_it_is_charged(self, onnx):
        asked = ask("", messages=(says(Role.SYSTEM, "Be brief."), says(Role.USER, "count")))
        counted = await onnx.count_tokens(asked)
        assert counted == (await onnx.complete(asked)).finish.usage.prompt_tokens == 15

    async def test_that_is_long_is_read_to_its_end(self, onnx):
        asked = ask("count" + "." * 1000)
        answer = await onnx.complete(asked)
        assert answer.finish.usage.prompt_tokens == 1004
        assert answer.message.text == "one two three four five"

    async def test_that_is_longer_than_the_window_is_refused(self, narrow, heard):
        with pytest.raises(InvalidInput, match=r"83 tokens, the model's window 64") as refused:
            await heard(narrow, ask("." * 80))
        assert refused.value.reason == "PROVIDER_REFUSED"

    async def test_leaves_the_rest_of_the_window_to_the_answer(self, narrow, heard):
        answer = await heard(narrow, ask("sing", max_tokens=1000))
        assert answer.finish.reason is FinishReason.LENGTH
        assert answer.finish.usage == Usage(4, 60)

    async def test_with_a_picture_is_refused(self, onnx, heard):
        talk = (Message(Role.USER, (Text("what?"), Image(data=b"png"))),)
        with pytest.raises(InvalidInput, match="pictures"):
            await heard(onnx, ask("", messages=talk))

    async def test_with_a_nul_is_not_cut_there(self, onnx, heard):
        assert (await heard(onnx, ask("count\0"))).message.text == "one two three four five"

    async def test_that_the_template_refuses_is_refused_in_its_words(self, tmp_path_factory):
        template = "{{ raise_exception('Conversations must alternate!') }}"
        folder = build(tmp_path_factory.mktemp("models") / "strict", template=template)
        async with opened(folder) as provider:
            with pytest.raises(InvalidInput, match="Conversations must alternate!"):
                await provider.complete(ask("count"))


class TestCapabilities:
    async def test_are_those_of_the_folder(self, onnx):
        able = onnx.capabilities("tiny")
        assert (able.tools, able.emulated_tools) == (True, False)
        assert (able.vision, able.json_schema, able.streaming) == (False, True, True)
        assert able.context_window == WINDOW

    async def test_without_a_place_for_tools_are_to_emulate_them(self, narrow):
        able = narrow.capabilities("tiny")
        assert (able.tools, able.emulated_tools, able.context_window) == (False, True, 64)

    async def test_of_what_is_no_model_are_unknown(self, tmp_path):
        assert OnnxChat(str(tmp_path)).capabilities("tiny").context_window is None
