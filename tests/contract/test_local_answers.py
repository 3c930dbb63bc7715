"""Answers of a form, and tool calls, as the small real model gives them through the router."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from servers.domain.chat import (
    ChatRequest,
    FinishReason,
    ModelRef,
    Role,
    Sampling,
    TextPiece,
    ToolSpec,
    says,
)
from servers.domain.services import Router
from servers.kernel.json_schema import JsonSchema
from servers.router.adapters.pool import open_providers
from servers.router.ports import RouterSettings
from servers.router.service import ModelRouter
from servers.router.wrappers.structured import StructuredRouter

pytestmark = [pytest.mark.local_model, pytest.mark.asyncio(loop_scope="module")]

REVIEW = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["mood", "stars"],
    "additionalProperties": False,
}
CITIES = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
}
TOOLS = (
    ToolSpec("weather", "Tells the weather of a city.", CITIES),
    ToolSpec("current_time", "Tells the time.", {"type": "object", "properties": {}}),
)


QUESTIONS = ("How is the weather in Rome?", "Say hello.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory) -> AsyncIterator[Router]:
    """For all tests, as it takes seconds to load."""
    async with open_providers(tmp_path_factory.mktemp("local")) as pool:
        yield StructuredRouter(ModelRouter(RouterSettings(), pool, env={}))


def ask(text: str, **more) -> ChatRequest:
    sampling = Sampling(temperature=0, max_tokens=40)
    return ChatRequest((says(Role.USER, text),), (ModelRef("local"),), sampling=sampling, **more)


async def test_an_answer_fits_its_schema_whole_and_streamed(models):
    request = ask("The soup was cold. Review it.", output_schema=REVIEW)
    *pieces, finish = [step async for step in models.stream(request)]
    streamed = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    whole = await models.complete(request)
    for text in (streamed, whole.message.text):
        assert JsonSchema(REVIEW).faults(json.loads(text)) == []
    assert (finish.reason, finish.besides, whole.finish.besides) == (FinishReason.STOP, (), ())


async def test_an_answer_with_tools_is_a_call_or_text(models):
    for question in QUESTIONS:
        answer = await models.complete(ask(question, tools=TOOLS))
        assert answer.finish.emulated
        for call in answer.message.tool_calls:
            (tool,) = (tool for tool in TOOLS if tool.name == call.name)
            assert JsonSchema(tool.parameters).faults(json.loads(call.arguments)) == []
        assert bool(answer.message.tool_calls) != bool(answer.message.text)
        assert not answer.message.text.startswith("{")


async def test_an_answer_with_tools_and_a_schema_is_a_call_or_fits(models):
    for question in QUESTIONS:
        *pieces, finish = [
            step async for step in models.stream(ask(question, tools=TOOLS, output_schema=REVIEW))
        ]
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
        assert finish.tool_calls or JsonSchema(REVIEW).faults(json.loads(text)) == []


async def test_arguments_that_no_grammar_could_hold_don_t_fail_the_call(models):
    """llama.cpp takes no pattern without ^ and $, no reference to the whole, no long repetition."""
    awkward = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "pattern": "(?=x)y", "maxLength": 100_000},
            "b": {"$ref": "#"},
            "c": {"not": {"type": "string"}},
        },
        "required": ["a"],
    }
    tools = (ToolSpec("awkward", "Does something.", awkward),)
    answer = await models.complete(ask("Say hello.", tools=tools))
    assert answer.finish.emulated
