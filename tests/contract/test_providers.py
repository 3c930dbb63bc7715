"""What every provider promises of its answers, against servers that speak on real sockets.

The scripted servers stand for model servers as their makers document them; the local model is
the real one (test_local_model.py has what only it can show). What goes out is in
test_provider_requests.py, what goes wrong in test_provider_failures.py.
"""

from contextlib import aclosing

import pytest

from servers.domain.chat import (
    FinishReason,
    Message,
    ReasoningPiece,
    Role,
    Sampling,
    Text,
    TextPiece,
    ToolCall,
    Usage,
)
from servers.router.adapters.openai.vllm import Vllm
from tests.contract.provider_fixture import (
    AZURE,
    HELLO,
    KINDS,
    LIKE_OPENAI,
    OPENAI,
    WEATHER,
    ask,
    only,
    streamed,
    text,
)
from tests.scripted.http_server import Call, Reply, Then
from tests.scripted.vllm_server import vllm_server

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one set of connections


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

    @only(*(kind for kind in KINDS if kind.caches))
    async def test_counts_cached_tokens(self, kind, http, heard):
        async with kind.server(Reply(prompt_tokens=11, cached_tokens=8)) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert finish.usage.cached_tokens == 8

    @only(*(kind for kind in KINDS if kind.thinks))
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

    @only(OPENAI, AZURE)
    async def test_that_is_a_refusal_says_that_it_was_withheld(self, kind, http, heard):
        async with kind.server(Reply(pieces=(), refusal="I can't help with that.")) as server:
            steps = await heard(kind.provider(server.endpoint, http), ask())
        assert text(steps) == "I can't help with that."
        assert steps[-1].reason is FinishReason.CONTENT_FILTER

    @only(*LIKE_OPENAI)
    async def test_that_a_filter_cut_off_says_so(self, kind, http, heard):
        async with kind.server(Reply(pieces=("I would",), reason="content_filter")) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask())
        assert finish.reason is FinishReason.CONTENT_FILTER

    async def test_of_vllm_may_be_counted_all_the_time(self, http):
        wanted = Sampling(extra={"stream_options": {"continuous_usage_stats": True}})
        async with vllm_server(Reply(prompt_tokens=11, completion_tokens=5)) as server:
            *_, finish = await streamed(Vllm(server.endpoint, http), ask(sampling=wanted))
        assert server.requests[0].body["stream_options"]["continuous_usage_stats"] is True
        assert finish.usage == Usage(11, 5)


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

    @only(*(kind for kind in KINDS if not kind.whole_calls))
    async def test_with_broken_json_are_passed_on_as_they_are(self, kind, http, heard):
        async with kind.server(Reply(pieces=(), calls=(Call("now", '{"zone": '),))) as server:
            *_, finish = await heard(kind.provider(server.endpoint, http), ask(tools=(WEATHER,)))
        assert finish.tool_calls[0].arguments == '{"zone":'

    async def test_have_ids_that_are_new_in_the_conversation(self, kind, http, heard):
        """Some servers give no ids, TGI gives "0" to all of them."""
        call = ToolCall("0", "weather", "{}")
        said = Message(Role.ASSISTANT, tool_calls=(call,))
        talk = (*HELLO, said, Message(Role.TOOL, (Text("sunny"),), tool_call_id="0"))
        async with kind.server(Reply(pieces=(), calls=(Call("time", "{}", "0"),))) as server:
            asked = ask(messages=talk, tools=(WEATHER,))
            *_, finish = await heard(kind.provider(server.endpoint, http), asked)
        assert finish.tool_calls[0].id not in ("", "0")

    async def test_are_part_of_the_whole_message(self, kind, http):
        async with kind.server(Reply(pieces=(), calls=(Call("now"),))) as server:
            completion = await kind.provider(server.endpoint, http).complete(ask(tools=(WEATHER,)))
        assert completion.message.tool_calls == completion.finish.tool_calls
