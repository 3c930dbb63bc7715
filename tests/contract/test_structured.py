"""What an `output_schema` promises: an answer that fits it, or an error."""

import asyncio
import json
from contextlib import aclosing
from functools import partial

import pytest

from servers.domain.chat import (
    ChatRequest,
    Finish,
    ModelRef,
    ModelUsage,
    ReasoningPiece,
    Role,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
    says,
)
from servers.kernel.errors import Interrupted, InvalidInput, Unavailable
from servers.router.wrappers.structured import StructuredRouter
from tests.contract.router_fixture import in_process, over_the_wire, provider, router
from tests.patience import PROMPTLY
from tests.scripted.http_server import Call, Reply, Then
from tests.scripted.openai_server import openai_server

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
ADA = '{"name": "Ada", "age": 36}'
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})
FITS, BROKEN = Reply(pieces=(ADA[:9], ADA[9:])), Reply(pieces=('{"name": "Ada"}',))
WRONG = Reply(pieces=('{"name": "Ada", "age": "old"}',))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def opened(request, tmp_path):
    return partial(router, request.param, tmp_path, wrapped=StructuredRouter)


def ask(schema: dict | None = PERSON, **more) -> ChatRequest:
    candidates = (ModelRef("up", "m"),)
    return ChatRequest((says(Role.USER, "Who is she?"),), candidates, output_schema=schema, **more)


async def whole(models, request: ChatRequest) -> tuple[str, Finish]:
    answer = await models.complete(request)
    return answer.message.text, answer.finish


async def streamed(models, request: ChatRequest) -> tuple[str, Finish]:
    *pieces, finish = [step async for step in models.stream(request)]
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)), finish


async def gather(steps, shown: list) -> None:
    """Keeps what came before an error."""
    async for step in steps:
        shown.append(step)


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def answered(request):
    return request.param


class TestAnAnswer:
    async def test_that_fits_is_passed_on(self, opened, answered):
        async with openai_server(FITS) as up, opened(provider("up", up.endpoint)) as models:
            text, finish = await answered(models, ask())
        assert (text, finish.besides, len(up.requests)) == (ADA, (), 1)

    @pytest.mark.parametrize("around", ["```json\n%s\n```", "Here you are:\n%s\nAnything else?"])
    async def test_is_taken_out_of_what_is_around_it(self, opened, answered, around):
        reply = Reply(pieces=(around % ADA,))
        async with openai_server(reply) as up, opened(provider("up", up.endpoint)) as models:
            text, _ = await answered(models, ask())
        assert (text, len(up.requests)) == (ADA, 1)

    async def test_without_a_schema_is_left_alone(self, opened, answered):
        async with openai_server(BROKEN) as up, opened(provider("up", up.endpoint)) as models:
            text, _ = await answered(models, ask(None))
        assert text == '{"name": "Ada"}'

    async def test_with_tool_calls_is_passed_on_unchecked(self, opened, answered):
        reply = Reply(pieces=("Let me see.",), calls=(Call("weather", "{}", "c1"),))
        async with openai_server(reply) as up, opened(provider("up", up.endpoint)) as models:
            text, finish = await answered(models, ask(tools=(WEATHER,)))
        assert (text, finish.tool_calls) == ("Let me see.", (ToolCall("c1", "weather", "{}"),))


class TestARepair:
    async def test_is_asked_for_once(self, opened, answered):
        async with openai_server(WRONG, FITS) as up, opened(provider("up", up.endpoint)) as models:
            text, _ = await answered(models, ask())
        assert (text, len(up.requests)) == (ADA, 2)

    async def test_is_told_the_answer_and_what_is_wrong_with_it(self, opened, answered):
        async with openai_server(WRONG, FITS) as up, opened(provider("up", up.endpoint)) as models:
            await answered(models, ask())
        question, said, complaint = up.requests[1].body["messages"]
        assert question == up.requests[0].body["messages"][0]
        assert said == {"role": "assistant", "content": '{"name": "Ada", "age": "old"}'}
        assert complaint["role"] == "user"
        assert '$.age: "old" is not of type "integer"' in complaint["content"]

    async def test_names_a_few_faults_only(self, opened, answered):
        schema = {"type": "object", "additionalProperties": {"type": "integer"}}
        many = Reply(pieces=(json.dumps({f"k{n}": "x" * 5_000 for n in range(50)}),))
        one = Reply(pieces=('{"a": 1}',))
        async with openai_server(many, one) as up, opened(provider("up", up.endpoint)) as models:
            await answered(models, ask(schema))
        complaint = up.requests[1].body["messages"][-1]["content"]
        assert complaint.count("- $") == 5
        assert len(complaint) < 2_000

    async def test_has_no_tools(self, opened, answered):
        async with openai_server(WRONG, FITS) as up, opened(provider("up", up.endpoint)) as models:
            await answered(models, ask(tools=(WEATHER,)))
        assert ["tools" in each.body for each in up.requests] == [True, False]

    async def test_is_asked_for_an_answer_without_words(self, opened, answered):
        nothing = Reply(pieces=())
        async with (
            openai_server(nothing, FITS) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            text, _ = await answered(models, ask())
        assert text == ADA

    async def test_says_what_the_first_answer_used(self, opened, answered):
        async with openai_server(WRONG, FITS) as up, opened(provider("up", up.endpoint)) as models:
            _, finish = await answered(models, ask())
        assert finish.besides == (ModelUsage("up", "m", 1, Usage(7, 2)),)
        assert finish.usage == Usage(7, 2)

    async def test_that_does_not_fit_either_is_the_error(self, opened, answered):
        async with openai_server(WRONG) as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(Unavailable, match=r"\$\.age") as caught:
                await answered(models, ask())
        assert caught.value.reason == "OUTPUT_INVALID"
        assert caught.value.facts == {"provider": "up", "model": "m"}
        assert len(up.requests) == 2

    async def test_of_an_answer_that_was_cut_is_not_tried(self, opened, answered):
        cut = Reply(pieces=(ADA[:12],), reason="length")
        async with openai_server(cut) as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(Unavailable, match="max_tokens") as caught:
                await answered(models, ask())
        assert (caught.value.reason, len(up.requests)) == ("OUTPUT_INVALID", 1)

    async def test_of_an_answer_that_was_withheld_is_not_tried(self, opened, answered):
        kept_back = Reply(pieces=(), reason="content_filter")
        async with openai_server(kept_back) as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(Unavailable, match="withheld"):
                await answered(models, ask())
        assert len(up.requests) == 1


class TestAStream:
    async def test_shows_thoughts_at_once_and_holds_text_back(self, opened):
        broken_off = Reply(reasoning=("hm",), pieces=(ADA,), then=Then.CLOSE)
        shown = []
        async with openai_server(broken_off) as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(Interrupted):
                await gather(models.stream(ask()), shown)
        assert shown == [ReasoningPiece("hm")]

    async def test_shows_nothing_of_an_answer_that_did_not_fit(self, opened):
        async with openai_server(WRONG, FITS) as up, opened(provider("up", up.endpoint)) as models:
            steps = [step async for step in models.stream(ask())]
        assert steps[:-1] == [TextPiece(ADA)]

    async def test_shows_the_thoughts_of_both_answers(self, opened):
        first = Reply(reasoning=("a",), pieces=("no",))
        second = Reply(reasoning=("b",), pieces=(ADA,))
        async with (
            openai_server(first, second) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            steps = [step async for step in models.stream(ask())]
        assert steps[:-1] == [ReasoningPiece("a"), ReasoningPiece("b"), TextPiece(ADA)]

    async def test_that_is_left_ends_the_repair(self, opened):
        hanging = Reply(reasoning=("hm",), pieces=(), then=Then.HANG)
        async with (
            openai_server(WRONG, hanging) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            async with aclosing(models.stream(ask())) as steps:
                assert await anext(steps) == ReasoningPiece("hm")
            await asyncio.wait_for(up.left.wait(), PROMPTLY)


class TestASchema:
    @pytest.mark.parametrize(
        ("schema", "field"),
        [
            ({"type": "array"}, "output_schema.type"),
            ({}, "output_schema.type"),
            (
                {"type": "object", "properties": {"a": {"type": "numbr"}}},
                "output_schema.properties.a.type",
            ),
            (
                {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/s"}}},
                "output_schema.properties.a.$ref",
            ),
            ({"type": "object", "description": "x" * 70_000}, "output_schema"),
        ],
    )
    async def test_that_is_none_is_refused_before_anything_is_asked(
        self, opened, answered, schema, field
    ):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(InvalidInput) as caught:
                await answered(models, ask(schema))
        assert [violation.field for violation in caught.value.violations] == [field]
        assert up.requests == []
