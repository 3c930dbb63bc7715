"""What every provider promises, against servers that speak on real sockets.

The scripted servers stand for OpenAI-compatible servers and for Ollama; the local model is
the real one (test_local_model.py has what only it can show).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

import pytest

from servers.domain.chat import (
    FinishReason,
    Image,
    Message,
    ReasoningPiece,
    Role,
    Sampling,
    Step,
    Text,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
    says,
)
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import MAX_BODY, MAX_LINE, Http, open_http
from servers.router.adapters.ollama import Ollama
from servers.router.adapters.openai_compat import OpenAICompat
from servers.router.ports import Ask, Provider, ProviderDown, Timeouts
from tests.scripted.http_server import Call, Reply, ScriptedServer, Then, nobody, refuses
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server

HELLO = (says(Role.USER, "hello"),)
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {}})
NOON = 1_700_000_000.0  # what the injected clock says


@dataclass(frozen=True)
class Kind:
    provider: Callable[[str, Http], Provider]
    server: Callable[..., AbstractAsyncContextManager[ScriptedServer]]


OPENAI = Kind(OpenAICompat, openai_server)
OLLAMA = Kind(Ollama, ollama_server)


@pytest.fixture(params=[OPENAI, OLLAMA], ids=["openai_compat", "ollama"])
def kind(request) -> Kind:
    return request.param


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with open_http(clock=lambda: NOON) as http:
        yield http


def ask(**wanted) -> Ask:
    return Ask(**{"model": "m", "messages": HELLO, **wanted})


async def whole(provider: Provider, asked: Ask) -> list[Step]:
    completion = await provider.complete(asked)
    return [TextPiece(completion.message.text), completion.finish]


async def streamed(provider: Provider, asked: Ask) -> list[Step]:
    return [step async for step in provider.stream(asked)]


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def heard(request):
    """Both ways to ask: one answer, or piece by piece."""
    return request.param


def text(steps: list[Step]) -> str:
    return "".join(step.text for step in steps if isinstance(step, TextPiece))


class TestAnAnswer:
    async def test_has_the_text(self, kind, http, heard):
        async with kind.server(Reply(pieces=("Good ", "morning"))) as server:
            steps = await heard(kind.provider(server.endpoint, http), ask())
        assert text(steps) == "Good morning"

    async def test_ends_with_one_finish(self, kind, http, heard):
        async with kind.server() as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert (finish.reason, finish.model) == (FinishReason.STOP, "m")

    async def test_has_the_provider_s_count(self, kind, http, heard):
        async with kind.server(Reply(prompt_tokens=11, completion_tokens=5)) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert finish.usage == Usage(11, 5)

    async def test_says_so_where_the_count_is_an_estimate(self, kind, http, heard):
        async with kind.server(Reply(pieces=("12345678",), counted=False)) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert finish.usage == Usage(2, 2, estimated=True)

    async def test_that_reached_its_limit_says_so(self, kind, http, heard):
        async with kind.server(Reply(reason="length")) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert finish.reason is FinishReason.LENGTH

    async def test_counts_cached_tokens(self, http, heard):
        async with openai_server(Reply(prompt_tokens=11, cached_tokens=8)) as server:
            *_, finish = await heard(OpenAICompat(server.endpoint, http), ask())
        assert finish.usage.cached_tokens == 8

    async def test_keeps_thoughts_apart(self, kind, http):
        async with kind.server(Reply(reasoning=("hm",), pieces=("yes",))) as server:
            provider = kind.provider(server.endpoint, http)
            steps = await streamed(provider, ask())
            completion = await provider.complete(ask())
        assert steps[:2] == [ReasoningPiece("hm"), TextPiece("yes")]
        assert (completion.message.reasoning, completion.message.text) == ("hm", "yes")

    async def test_arrives_piece_by_piece(self, kind, http):
        async with kind.server(Reply(pieces=("first",), then=Then.HANG)) as server:
            steps = kind.provider(server.endpoint, http).stream(ask())
            async with aclosing(steps):
                assert await anext(steps) == TextPiece("first")  # though the end never comes

    @pytest.mark.parametrize("cut", [1, 7, 64])
    async def test_may_arrive_cut_anywhere(self, kind, http, cut):
        async with kind.server(Reply(pieces=("Grüße ", "🦊"), cut=cut)) as server:
            steps = await streamed(kind.provider(server.endpoint, http), ask())
        assert steps[:2] == [TextPiece("Grüße "), TextPiece("🦊")]

    async def test_leaves_a_connection_for_the_next(self, kind, http, heard):
        async with kind.server() as server:
            provider = kind.provider(server.endpoint, http)
            for _ in range(5):
                await heard(provider, ask())
        assert server.connections == 1

    async def test_comes_though_a_kept_connection_was_closed_meanwhile(self, kind, http, heard):
        async with kind.server(Reply(closes=True)) as server:
            provider = kind.provider(server.endpoint, http)
            for _ in range(5):
                assert text(await heard(provider, ask())) == "Hello there"
        assert len(server.requests) == 5


class TestToolCalls:
    async def test_are_gathered_whole(self, kind, http, heard):
        call = Call("weather", '{"city":"Rome"}')
        async with kind.server(Reply(pieces=(), calls=(call,))) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask(tools=(WEATHER,)))
        assert finish.reason is FinishReason.TOOL_CALLS
        assert [(c.name, c.arguments) for c in finish.tool_calls] == [
            ("weather", '{"city":"Rome"}')
        ]

    async def test_of_one_answer_keep_their_order_and_ids_apart(self, kind, http, heard):
        calls = (Call("weather", '{"a":1}', "call_a"), Call("time", '{"b":2}', "call_b"))
        async with kind.server(Reply(pieces=(), calls=calls)) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask(tools=(WEATHER,)))
        assert [call.name for call in finish.tool_calls] == ["weather", "time"]
        assert len({call.id for call in finish.tool_calls}) == 2

    async def test_without_arguments_have_an_empty_object(self, kind, http, heard):
        async with kind.server(Reply(pieces=(), calls=(Call("now", ""),))) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask(tools=(WEATHER,)))
        assert finish.tool_calls[0].arguments == "{}"

    async def test_with_broken_json_are_passed_on_as_they_are(self, http, heard):
        async with openai_server(Reply(pieces=(), calls=(Call("now", '{"zone": '),))) as server:
            *_, finish = await heard(OpenAICompat(server.endpoint, http), ask(tools=(WEATHER,)))
        assert finish.tool_calls[0].arguments == '{"zone":'

    async def test_are_part_of_the_whole_message(self, kind, http):
        async with kind.server(Reply(pieces=(), calls=(Call("now"),))) as server:
            completion = await kind.provider(server.endpoint, http).complete(ask(tools=(WEATHER,)))
        assert completion.message.tool_calls == completion.finish.tool_calls


class TestARequest:
    async def body(self, kind, http, asked: Ask):
        async with kind.server() as server:
            await kind.provider(server.endpoint, http).complete(asked)
        return server.requests[0]

    async def test_has_no_tools_where_there_are_none(self, kind, http):
        assert "tools" not in (await self.body(kind, http, ask())).body

    async def test_has_the_tools_as_json_schema(self, kind, http):
        asked = await self.body(kind, http, ask(tools=(WEATHER,)))
        assert asked.body["tools"][0]["function"]["parameters"] == WEATHER.parameters

    async def test_has_no_authorization_without_a_key(self, kind, http):
        assert "authorization" not in (await self.body(kind, http, ask())).headers

    async def test_has_the_key(self, kind, http):
        asked = await self.body(kind, http, ask(api_key="abc"))
        assert asked.headers["authorization"] == "Bearer abc"

    async def test_has_sampling_in_openai_s_words(self, http):
        wanted = Sampling(0.5, 0.9, 100, ("END",), 7, {"top_k": 3})
        body = (await self.body(OPENAI, http, ask(sampling=wanted))).body
        assert {key: body[key] for key in ("temperature", "top_p", "max_tokens", "stop")} == {
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 100,
            "stop": ["END"],
        }
        assert (body["seed"], body["top_k"]) == (7, 3)

    async def test_has_sampling_among_ollama_s_options(self, http):
        wanted = Sampling(0.5, 0.9, 100, ("END",), 7, {"top_k": 3})
        body = (await self.body(OLLAMA, http, ask(sampling=wanted))).body
        assert body["options"] == {
            "temperature": 0.5,
            "top_p": 0.9,
            "num_predict": 100,
            "stop": ["END"],
            "seed": 7,
            "top_k": 3,
        }

    async def test_has_a_schema_for_the_answer_in_each_one_s_words(self, http):
        schema = {"type": "object"}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        asked = ask(sampling=Sampling(extra={"response_format": wanted}))
        assert (await self.body(OPENAI, http, asked)).body["response_format"] == wanted
        assert (await self.body(OLLAMA, http, asked)).body["format"] == schema

    async def test_can_not_be_overruled_by_extra_settings(self, kind, http):
        asked = ask(sampling=Sampling(extra={"model": "other", "stream": True, "messages": []}))
        body = (await self.body(kind, http, asked)).body
        assert (body["model"], body["stream"], len(body["messages"])) == ("m", False, 1)

    async def test_gives_tool_results_back(self, http):
        call = ToolCall("call_1", "weather", '{"city":"Rome"}')
        talk = (
            *HELLO,
            Message(Role.ASSISTANT, tool_calls=(call,), reasoning="I must look"),
            Message(Role.TOOL, (Text("sunny"),), tool_call_id="call_1"),
        )
        openai = (await self.body(OPENAI, http, ask(messages=talk))).body["messages"]
        assert openai[1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}'
        assert openai[1]["reasoning_content"] == "I must look"
        assert openai[2] == {"role": "tool", "content": "sunny", "tool_call_id": "call_1"}
        ollama = (await self.body(OLLAMA, http, ask(messages=talk))).body["messages"]
        assert ollama[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
        assert ollama[2] == {"role": "tool", "content": "sunny", "tool_name": "weather"}

    async def test_shows_broken_arguments_as_json_because_servers_parse_them(self, kind, http):
        call = ToolCall("call_1", "weather", '{"city":')
        talk = (
            *HELLO,
            Message(Role.ASSISTANT, tool_calls=(call,)),
            Message(Role.TOOL, (Text("repair that"),), tool_call_id="call_1"),
        )
        body = (await self.body(kind, http, ask(messages=talk))).body
        arguments = body["messages"][1]["tool_calls"][0]["function"]["arguments"]
        found = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert found == {"broken_json": '{"city":'}

    async def test_has_pictures_as_each_one_wants_them(self, http):
        picture = Image(data=b"png", media_type="image/png")
        talk = (Message(Role.USER, (Text("what?"), picture)),)
        openai = (await self.body(OPENAI, http, ask(messages=talk))).body["messages"][0]
        assert openai["content"][1]["image_url"]["url"] == "data:image/png;base64,cG5n"
        ollama = (await self.body(OLLAMA, http, ask(messages=talk))).body["messages"][0]
        assert (ollama["content"], ollama["images"]) == ("what?", ["cG5n"])

    @pytest.mark.parametrize("given", ["", "/v1", "/v1/", "/v1/chat/completions"])
    async def test_finds_the_chat_whatever_address_is_given(self, http, given):
        async with openai_server() as server:
            base = f"http://127.0.0.1:{server.port}"
            await OpenAICompat(base + given, http).complete(ask())
        assert server.requests[0].path == "/v1/chat/completions"


class TestAProviderThatRefuses:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, InvalidInput),
            (422, InvalidInput),
            (401, NotReady),
            (403, NotReady),
            (404, NotReady),
        ],
    )
    async def test_the_request_is_not_down(self, kind, http, heard, status, error):
        async with kind.server(refuses(status, "because")) as server:
            with pytest.raises(error, match="because"):
                await heard(kind.provider(server.endpoint, http), ask())

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
    async def test_for_the_time_being_is_down(self, kind, http, heard, status):
        async with kind.server(refuses(status, "overloaded")) as server:
            with pytest.raises(ProviderDown, match="overloaded"):
                await heard(kind.provider(server.endpoint, http), ask())

    @pytest.mark.parametrize(
        ("says", "pause"),
        [("30", 30), ("1.5", 1.5), ("Tue, 14 Nov 2023 22:13:30 GMT", 10), ("soon", 0), ("-1", 0)],
    )
    async def test_may_say_when_to_come_back(self, kind, http, heard, says, pause):
        async with kind.server(refuses(429, "slow down", Retry_After=says)) as server:
            with pytest.raises(ProviderDown) as caught:
                await heard(kind.provider(server.endpoint, http), ask())
        assert caught.value.pause == pause

    async def test_never_shows_the_key_it_quotes(self, kind, http, heard):
        async with kind.server(refuses(401, "bad key zig-zag-zug, or sk-abcdef123")) as server:
            with pytest.raises(NotReady) as caught:
                await heard(kind.provider(server.endpoint, http), ask(api_key="zig-zag-zug"))
        assert "zig" not in caught.value.message
        assert "abcdef" not in caught.value.message

    async def test_leaves_the_next_request_alone(self, kind, http, heard):
        async with kind.server(refuses(500), Reply(pieces=("fine",))) as server:
            provider = kind.provider(server.endpoint, http)
            with pytest.raises(ProviderDown):
                await heard(provider, ask())
            assert text(await heard(provider, ask())) == "fine"


class TestAProviderThatFails:
    async def test_is_down_where_the_connection_is_refused(self, kind, http, heard):
        async with nobody() as address:
            with pytest.raises(ProviderDown, match=f"{address}.*: can't connect: Connection ref"):
                await heard(kind.provider(address, http), ask())

    async def test_is_down_where_its_name_is_unknown(self, kind, http, heard):
        with pytest.raises(ProviderDown, match=r"nowhere\.invalid"):
            await heard(kind.provider("http://nowhere.invalid", http), ask())

    async def test_is_down_where_it_closes_in_the_middle(self, kind, http, heard):
        async with kind.server(Reply(then=Then.CLOSE)) as server:
            with pytest.raises(ProviderDown):
                await heard(kind.provider(server.endpoint, http), ask())

    async def test_is_down_where_it_talks_garbage(self, kind, http, heard):
        async with kind.server(Reply(then=Then.GARBAGE)) as server:
            with pytest.raises(ProviderDown, match="it works"):
                await heard(kind.provider(server.endpoint, http), ask())

    async def test_has_not_answered_where_the_end_is_missing(self, kind, http, heard):
        async with kind.server(Reply(then=Then.STOP)) as server:
            with pytest.raises(ProviderDown) as caught:
                await heard(kind.provider(server.endpoint, http), ask())
        assert caught.value.reason == "BAD_ANSWER"

    @pytest.mark.parametrize(
        ("pieces", "limits", "says"),
        [
            ((), Timeouts(first_token=0.05), "first token"),
            (("a",), Timeouts(between_tokens=0.05), "further token"),
            (("a",), Timeouts(total=0.05), "whole answer"),
        ],
    )
    async def test_is_down_where_it_hangs(self, kind, http, pieces, limits, says):
        async with kind.server(Reply(pieces=pieces, then=Then.HANG)) as server:
            provider = kind.provider(server.endpoint, http)
            with pytest.raises(ProviderDown, match=says) as caught:
                await streamed(provider, ask(timeouts=limits))
            await asyncio.wait_for(server.left.wait(), 5)
        assert caught.value.reason == "PROVIDER_TIMEOUT"

    async def test_is_down_where_the_whole_answer_does_not_come(self, kind, http):
        async with kind.server(Reply(then=Then.HANG)) as server:
            with pytest.raises(ProviderDown, match=r"whole answer within 0\.05 s"):
                await whole(
                    kind.provider(server.endpoint, http), ask(timeouts=Timeouts(total=0.05))
                )
            await asyncio.wait_for(server.left.wait(), 5)

    async def test_may_say_so_in_the_middle_of_a_stream(self, kind, http):
        async with kind.server(Reply(then=Then.ERROR, error="out of memory")) as server:
            with pytest.raises(ProviderDown, match="out of memory"):
                await streamed(kind.provider(server.endpoint, http), ask())


class TestAnAnswerWithoutMeasure:
    async def test_in_one_line_is_cut_off(self, kind, http):
        async with kind.server(Reply(pieces=("x" * (MAX_LINE + 1),))) as server:
            with pytest.raises(ProviderDown, match="a line of more than"):
                await streamed(kind.provider(server.endpoint, http), ask())

    async def test_in_one_body_is_cut_off(self, kind, http):
        async with kind.server(Reply(pieces=("x" * (MAX_BODY + 1),))) as server:
            with pytest.raises(ProviderDown, match="more than"):
                await whole(kind.provider(server.endpoint, http), ask())


class TestLeaving:
    async def test_a_stream_ends_the_provider_s_work(self, kind, http):
        async with kind.server(Reply(pieces=("a", "b"), then=Then.HANG)) as server:
            steps: AsyncGenerator[Step, None] = kind.provider(server.endpoint, http).stream(ask())
            async with aclosing(steps):
                await anext(steps)
            await asyncio.wait_for(server.left.wait(), 5)

    async def test_while_waiting_ends_the_provider_s_work(self, kind, http, heard):
        async with kind.server(Reply(pieces=(), then=Then.HANG)) as server:
            waiting = asyncio.create_task(heard(kind.provider(server.endpoint, http), ask()))
            await asyncio.wait_for(server.asked.wait(), 5)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.wait_for(server.left.wait(), 5)


class TestHealth:
    async def test_is_good_where_the_provider_answers(self, kind, http):
        async with kind.server() as server:
            await kind.provider(server.endpoint, http).health("")

    async def test_is_bad_where_nobody_listens(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown):
                await kind.provider(address, http).health("")


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "http://", ""])
def test_what_is_no_http_address_is_refused(kind, address):
    with pytest.raises(NotReady, match="http"):
        kind.provider(address, None)


def test_a_request_is_json_of_the_expected_shape():
    """Guards the scripted servers themselves: they must see what a real server would."""
    from servers.router.adapters import openai_wire

    body = json.loads(openai_wire.request(ask(), stream=True))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
