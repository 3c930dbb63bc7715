"""Tools for models that have none, as callers of the router see them."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest

from servers.domain.chat import (
    ChatRequest,
    Finish,
    FinishReason,
    Message,
    ModelRef,
    Role,
    Text,
    ToolCall,
    ToolSpec,
    says,
)
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.ports import ModelSettings, ProviderSettings
from servers.router.wrappers.structured import StructuredRouter
from tests.contract.router_fixture import in_process, over_the_wire, router
from tests.patience import PROMPTLY
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})
CALL = Reply(pieces=('{"tool": "weather", ', '"arguments": {"city": "Rome"}}'))
SUNNY = Reply(pieces=('{"answer": "It is sunny."}',))
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
EMULATED = Capabilities(tools=False, emulated_tools=True)


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def opened(request, tmp_path):
    return partial(router, request.param, tmp_path, wrapped=StructuredRouter)


def provider(endpoint: str, able: Capabilities = EMULATED) -> ProviderSettings:
    return ProviderSettings("up", "openai_compat", endpoint, models=(ModelSettings("m", able),))


def ask(**more) -> ChatRequest:
    question = (says(Role.USER, "How is the weather in Rome?"),)
    return ChatRequest(question, (ModelRef("up", "m"),), tools=(WEATHER,), **more)


async def whole(models, request: ChatRequest) -> tuple[str, Finish]:
    answer = await models.complete(request)
    return answer.message.text, answer.finish


async def streamed(models, request: ChatRequest) -> tuple[str, Finish]:
    *pieces, finish = [step async for step in models.stream(request)]
    return "".join(piece.text for piece in pieces), finish


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def answered(request):
    return request.param


async def test_a_call_is_a_call(opened, answered):
    async with openai_server(CALL) as up, opened(provider(up.endpoint)) as models:
        text, finish = await answered(models, ask())
    assert (text, finish.reason, finish.emulated) == ("", FinishReason.TOOL_CALLS, True)
    assert finish.tool_calls == (ToolCall("call_1", "weather", '{"city":"Rome"}'),)


async def test_an_answer_is_an_answer(opened, answered):
    async with openai_server(SUNNY) as up, opened(provider(up.endpoint)) as models:
        text, finish = await answered(models, ask())
    assert (text, finish.reason, finish.emulated) == ("It is sunny.", FinishReason.STOP, True)


async def test_the_model_is_sent_a_schema_and_no_tools(opened, answered):
    async with openai_server(SUNNY) as up, opened(provider(up.endpoint)) as models:
        await answered(models, ask())
    body = up.requests[0].body
    calls = body["response_format"]["json_schema"]["schema"]["anyOf"]
    assert ("tools" in body, calls[0]["properties"]["tool"]) == (False, {"const": "weather"})


async def test_the_model_reads_results_as_the_users_words(opened, answered):
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("call_1", "weather", "{}"),))
    result = Message(Role.TOOL, (Text("sunny"),), tool_call_id="call_1")
    request = replace(ask(), messages=(*ask().messages, call, result))
    async with openai_server(SUNNY) as up, opened(provider(up.endpoint)) as models:
        await answered(models, request)
    told = up.requests[0].body["messages"]
    assert [each["role"] for each in told] == ["system", "user", "assistant", "user"]
    assert "sunny" in told[-1]["content"]


async def test_an_answer_of_a_wanted_form_is_checked_by_the_whole_schema(opened, answered):
    wrong, right = Reply(pieces=('{"answer": {"age": "x"}}',)), Reply(pieces=('{"age": 3}',))
    async with openai_server(wrong, right) as up, opened(provider(up.endpoint)) as models:
        text, finish = await answered(models, ask(output_schema=AGE))
    assert (text, len(finish.besides)) == ('{"age": 3}', 1)


async def test_a_model_that_takes_no_schema_is_told_in_words(opened, answered):
    able = Capabilities(tools=False, emulated_tools=True, json_schema=False)
    async with openai_server(CALL) as up, opened(provider(up.endpoint, able)) as models:
        _, finish = await answered(models, ask())
    assert "response_format" not in up.requests[0].body
    assert [call.name for call in finish.tool_calls] == ["weather"]


async def test_a_model_that_is_not_to_be_asked_so_is_passed_over(opened, answered):
    able = Capabilities(tools=False)
    async with openai_server(CALL) as up, opened(provider(up.endpoint, able)) as models:
        with pytest.raises(NotReady, match="tools"):
            await answered(models, ask())
    assert up.requests == []


async def test_leaving_a_stream_frees_the_provider(opened):
    hanging = Reply(reasoning=("hm",), pieces=('{"answer": "',), then=Then.HANG)
    async with openai_server(hanging) as up, opened(provider(up.endpoint)) as models:
        async with aclosing(models.stream(ask())) as steps:
            await anext(steps)
        await asyncio.wait_for(up.left.wait(), PROMPTLY)
