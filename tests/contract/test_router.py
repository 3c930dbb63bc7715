"""What `Router` promises, checked in process and over the wire alike."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from servers.domain.chat import (
    Completion,
    Finish,
    FinishReason,
    Image,
    Message,
    ModelRef,
    ReasoningPiece,
    Role,
    Sampling,
    Speaker,
    Text,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
)
from servers.domain.models import Capabilities
from servers.kernel.errors import Interrupted, InvalidInput, NotReady, Unavailable
from servers.router.ports import ModelSettings, ProviderSettings, RouterSettings
from tests.contract.router_fixture import ask, opened, provider, streamed
from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.http_server import Call, Reply, Then, nobody, refuses
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})
PICTURE = Message(Role.USER, (Image(data=b"png", media_type="image/png"),))


async def gather(stream, steps: list) -> None:
    """Keeps what came before an error."""
    async for step in stream:
        steps.append(step)


class TestAnAnswer:
    async def test_is_whole(self, opened):
        async with (
            openai_server(Reply(pieces=("Good ", "morning"))) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            assert await models.complete(ask("up")) == Completion(
                Message(Role.ASSISTANT, (Text("Good morning"),)),
                Finish(FinishReason.STOP, (), Usage(7, 2), "up", "m"),
            )

    async def test_streams_pieces_then_exactly_one_finish(self, opened):
        async with (
            openai_server(Reply(reasoning=("hm",), pieces=("hi", "!"))) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            assert await streamed(models, ask("up")) == [
                ReasoningPiece("hm"),
                TextPiece("hi"),
                TextPiece("!"),
                Finish(FinishReason.STOP, (), Usage(7, 2), "up", "m"),
            ]

    async def test_has_whole_tool_calls(self, opened):
        async with (
            openai_server(Reply(pieces=(), calls=(Call("weather", '{"a":1}', "c9"),))) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            *_, finish = await streamed(models, ask("up", tools=(WEATHER,)))
        assert finish.tool_calls == (ToolCall("c9", "weather", '{"a":1}'),)

    async def test_comes_from_a_type_that_no_manifest_declares(self, opened):
        async with ollama_server() as server, opened() as models:
            ref = ModelRef("ollama", "llama3", endpoint=server.endpoint)
            answer = await models.complete(replace(ask(), candidates=(ref,)))
        assert (answer.finish.provider, answer.finish.model) == ("ollama", "llama3")

    async def test_comes_from_the_first_declared_model_where_none_is_named(self, opened):
        async with (
            openai_server() as up,
            opened(provider("up", up.endpoint, "big", "small")) as models,
        ):
            await models.complete(replace(ask(), candidates=(ModelRef("up"),)))
        assert up.requests[0].body["model"] == "big"

    async def test_is_sampled_as_the_call_wants_before_what_is_configured(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            ref = ModelRef("up", "m", sampling=Sampling(temperature=0.1, max_tokens=50))
            request = replace(ask(), candidates=(ref,), sampling=Sampling(temperature=0.9))
            await models.complete(request)
        body = up.requests[0].body
        assert (body["temperature"], body["max_tokens"]) == (0.9, 50)


class TestFallback:
    async def test_the_first_healthy_provider_answers(self, opened):
        async with (
            nobody() as down,
            openai_server(refuses(500)) as broken,
            openai_server(Reply(pieces=("hi",))) as up,
            opened(
                provider("down", down),
                provider("broken", broken.endpoint),
                provider("up", up.endpoint),
            ) as models,
        ):
            answer = await models.complete(ask("down", "broken", "up"))
            steps = await streamed(models, ask("down", "broken", "up"))
        assert (answer.message.text, answer.finish.provider) == ("hi", "up")
        assert steps[-1].provider == "up"

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    async def test_goes_on_where_the_provider_failed(self, opened, status):
        async with (
            openai_server(refuses(status)) as down,
            openai_server() as up,
            opened(provider("down", down.endpoint), provider("up", up.endpoint)) as models,
        ):
            assert (await models.complete(ask("down", "up"))).finish.provider == "up"

    @pytest.mark.parametrize(
        ("status", "error"),
        [(400, InvalidInput), (422, InvalidInput), (401, NotReady), (403, NotReady)],
    )
    async def test_ends_where_the_request_was_wrong(self, opened, status, error):
        async with (
            openai_server(refuses(status, "because")) as strict,
            openai_server() as up,
            opened(provider("strict", strict.endpoint), provider("up", up.endpoint)) as models,
        ):
            with pytest.raises(error, match="because") as caught:
                await models.complete(ask("strict", "up"))
        assert caught.value.facts["provider"] == "strict"
        assert not up.requests

    async def test_ends_with_the_first_piece(self, opened):
        async with (
            openai_server(Reply(pieces=("h",), then=Then.CLOSE)) as broken,
            openai_server() as other,
            opened(provider("broken", broken.endpoint), provider("o", other.endpoint)) as models,
        ):
            steps = []
            with pytest.raises(Interrupted, match="broken/m broke off") as caught:
                await gather(models.stream(ask("broken", "o")), steps)
        assert (steps, caught.value.reason) == ([TextPiece("h")], "STREAM_INTERRUPTED")
        assert not other.requests

    async def test_happens_where_a_stream_breaks_before_its_first_piece(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.CLOSE)) as broken,
            openai_server(Reply(pieces=("hi",))) as up,
            opened(provider("broken", broken.endpoint), provider("up", up.endpoint)) as models,
        ):
            steps = await streamed(models, ask("broken", "up"))
        assert steps[:2] == [Speaker("up", "m"), TextPiece("hi")]

    async def test_happens_where_an_attempt_takes_too_long(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as slow,
            openai_server() as up,
            opened(provider("slow", slow.endpoint), provider("up", up.endpoint)) as models,
        ):
            refs = ModelRef("slow", "m", timeout=0.05), ModelRef("up", "m")
            answer = await models.complete(replace(ask(), candidates=refs))
        assert answer.finish.provider == "up"

    async def test_can_be_switched_off(self, opened):
        async with (
            nobody() as down,
            openai_server() as up,
            opened(
                provider("down", down), provider("up", up.endpoint), fallback_enabled=False
            ) as models,
        ):
            with pytest.raises(Unavailable):
                await models.complete(ask("down", "up"))

    async def test_that_finds_nobody_says_who_was_tried_and_why_it_failed(self, opened):
        async with (
            openai_server(refuses(503, "too hot")) as down,
            opened(provider("down", down.endpoint)) as models,
        ):
            with pytest.raises(Unavailable, match=r"down/m: .* answered 503: too hot") as caught:
                await models.complete(ask("down"))
        assert caught.value.reason == "NO_PROVIDER_LEFT"
        assert caught.value.facts == {"provider": "down", "model": "m", "cause": "PROVIDER_FAILED"}

    async def test_never_shows_a_key(self, opened):
        async with (
            openai_server(refuses(500, "key zig-zag-zug is broken")) as down,
            opened(provider("down", down.endpoint, api_key="zig-zag-zug")) as models,
        ):
            with pytest.raises(Unavailable) as caught:
                await models.complete(ask("down"))
        assert "zig" not in caught.value.message


class TestLeaving:
    async def test_a_stream_early_frees_the_provider(self, opened):
        async with (
            openai_server(Reply(pieces=("a",), then=Then.HANG)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            async with aclosing(models.stream(ask("up"))) as steps:
                await anext(steps)
            await asyncio.wait_for(up.left.wait(), PROMPTLY)

    async def test_while_waiting_frees_the_provider(self, opened):
        async with (
            openai_server(Reply(then=Then.HANG)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            waiting = asyncio.create_task(models.complete(ask("up")))
            await asyncio.wait_for(up.asked.wait(), PATIENCE)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.wait_for(up.left.wait(), PROMPTLY)


class TestWhatIsNeeded:
    def able(self, name: str, endpoint: str, **can) -> ProviderSettings:
        return ProviderSettings(
            name, "openai_compat", endpoint, models=(ModelSettings("m", Capabilities(**can)),)
        )

    @pytest.mark.parametrize(
        ("lacks", "more"),
        [
            ("tools", {"tools": (WEATHER,)}),
            ("vision", {"messages": (PICTURE,)}),
            (
                "json_schema",
                {"sampling": Sampling(extra={"response_format": {"type": "json_schema"}})},
            ),
        ],
    )
    async def test_goes_to_the_next_who_can(self, opened, lacks, more):
        async with (
            openai_server() as one,
            openai_server() as two,
            opened(
                self.able("one", one.endpoint, **{lacks: False}),
                self.able("two", two.endpoint, **{lacks: True}),
            ) as models,
        ):
            answer = await models.complete(replace(ask("one", "two"), **more))
        assert answer.finish.provider == "two"
        assert not one.requests

    async def test_and_nobody_can_is_said(self, opened):
        async with opened(self.able("one", "http://127.0.0.1:9", tools=False)) as models:
            with pytest.raises(NotReady, match="one/m has no tools") as caught:
                await models.complete(ask("one", tools=(WEATHER,)))
        assert caught.value.reason == "MODEL_CANNOT"

    async def test_and_nothing_declared_is_tried(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            await models.complete(ask("up", tools=(WEATHER,)))
        assert up.requests


class TestCredentials:
    async def test_come_from_the_environment(self, opened):
        async with (
            openai_server() as up,
            opened(
                provider("up", up.endpoint, api_key_env="UP_KEY"), env={"UP_KEY": "abc"}
            ) as models,
        ):
            await models.complete(ask("up"))
        assert up.requests[0].headers["authorization"] == "Bearer abc"

    async def test_that_are_missing_are_named(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9", api_key_env="UP_KEY")) as models:
            with pytest.raises(NotReady, match="UP_KEY") as caught:
                await models.complete(ask("up"))
        assert caught.value.facts["variable"] == "UP_KEY"

    async def test_of_one_endpoint_never_go_to_another(self, opened):
        async with (
            openai_server() as other,
            opened(provider("up", "http://127.0.0.1:9", api_key="abc")) as models,
        ):
            ref = ModelRef("up", "m", endpoint=other.endpoint)
            await models.complete(replace(ask(), candidates=(ref,)))
        assert "authorization" not in other.requests[0].headers


class TestWhatIsWrong:
    async def test_is_an_unknown_provider(self, opened):
        async with opened() as models:
            with pytest.raises(InvalidInput, match="no provider 'nobody'"):
                await models.complete(ask("nobody"))

    async def test_is_an_unknown_strategy(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(InvalidInput, match="did you mean 'round_robin'"):
                await models.complete(ask("up", strategy="round_robbin"))

    async def test_is_nobody_to_ask(self, opened):
        async with opened() as models:
            with pytest.raises(InvalidInput, match="candidates"):
                await models.complete(ask())

    async def test_is_nothing_to_answer(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(InvalidInput, match="messages"):
                await streamed(models, replace(ask("up"), messages=()))

    async def test_does_not_spoil_the_next_request(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(InvalidInput):
                await models.complete(replace(ask("up"), messages=()))
            assert (await models.complete(ask("up"))).finish.provider == "up"


def test_settings_with_an_unknown_strategy_are_refused():
    from servers.router.service import ModelRouter

    with pytest.raises(InvalidInput, match="no strategy 'cheapest'; known are"):
        ModelRouter(RouterSettings(default_strategy="cheapest"), None, env={})
