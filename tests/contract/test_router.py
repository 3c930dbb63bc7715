"""What `Router` promises, checked in process and over the wire alike."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest

from servers.domain.chat import (
    ChatRequest,
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
    says,
)
from servers.domain.models import BreakerState, Capabilities, ModelInfo
from servers.kernel.errors import (
    Interrupted,
    InvalidInput,
    NotFound,
    NotReady,
    Unavailable,
)
from servers.router.ports import ModelSettings, Price, ProviderSettings, RouterSettings
from servers.router.prices import PriceList
from tests.contract.router_fixture import Clock, in_process, over_the_wire, provider, router
from tests.scripted.http_server import Call, Reply, Then, nobody, refuses
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"})
PICTURE = Message(Role.USER, (Image(data=b"png", media_type="image/png"),))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def opened(request, tmp_path):
    """Opens a router over providers, reached in one way or the other."""
    return partial(router, request.param, tmp_path)


def ask(*providers: str, **more) -> ChatRequest:
    candidates = tuple(ModelRef(each, "m") for each in providers)
    return ChatRequest((says(Role.USER, "hello"),), candidates, **more)


async def stream(models, request: ChatRequest) -> list:
    return [step async for step in models.stream(request)]


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
            assert await stream(models, ask("up")) == [
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
            *_, finish = await stream(models, ask("up", tools=(WEATHER,)))
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
            steps = await stream(models, ask("down", "broken", "up"))
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
            steps = await stream(models, ask("broken", "up"))
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


class TestABreaker:
    async def test_leaves_a_provider_alone_that_failed_three_times(self, opened):
        async with (
            openai_server(refuses(500)) as down,
            opened(provider("down", down.endpoint)) as models,
        ):
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await models.complete(ask("down"))
        assert len(down.requests) == 3

    async def test_tells_the_caller_when_to_retry(self, opened):
        clock = Clock()
        async with (
            openai_server(refuses(500)) as down,
            opened(provider("down", down.endpoint), clock=clock) as models,
        ):
            for _ in range(3):
                with pytest.raises(Unavailable) as caught:
                    await models.complete(ask("down"))
            assert caught.value.retry_after == 60
            clock.now = 40
            with pytest.raises(Unavailable, match="left alone for 20 s") as caught:
                await models.complete(ask("down"))
            assert caught.value.retry_after == 20

    async def test_pauses_a_provider_for_as_long_as_it_asks(self, opened):
        clock = Clock()
        async with (
            openai_server(refuses(429, Retry_After="7"), Reply()) as busy,
            opened(provider("busy", busy.endpoint), clock=clock) as models,
        ):
            for _ in range(2):
                with pytest.raises(Unavailable) as caught:
                    await models.complete(ask("busy"))
                assert caught.value.retry_after == 7
            assert len(busy.requests) == 1
            clock.now = 7
            assert (await models.complete(ask("busy"))).finish.provider == "busy"

    async def test_sends_exactly_one_probe_though_fifty_ask(self, opened):
        clock = Clock()
        async with (
            openai_server(*[refuses(500)] * 3, Reply(then=Then.HANG)) as down,
            openai_server() as up,
            opened(
                provider("down", down.endpoint), provider("up", up.endpoint), clock=clock
            ) as models,
        ):
            for _ in range(3):
                await models.complete(ask("down", "up"))
            clock.now = 60
            down.asked.clear()
            asking = [asyncio.create_task(models.complete(ask("down", "up"))) for _ in range(50)]
            await asyncio.wait_for(down.asked.wait(), 5)
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            while sum(each.done() for each in asking) < 49:
                await asyncio.wait(
                    [each for each in asking if not each.done()],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            assert len(down.requests) == 4
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def test_is_not_moved_by_the_caller_s_errors(self, opened):
        async with (
            openai_server(*[refuses(400)] * 4, Reply()) as strict,
            opened(provider("strict", strict.endpoint)) as models,
        ):
            for _ in range(4):
                with pytest.raises(InvalidInput):
                    await models.complete(ask("strict"))
            assert (await models.complete(ask("strict"))).finish.provider == "strict"

    async def test_is_not_moved_by_callers_who_leave(self, opened):
        async with (
            openai_server(*[Reply(then=Then.HANG)] * 4, Reply()) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            for _ in range(4):
                async with aclosing(models.stream(ask("up"))) as steps:
                    await anext(steps)
            assert (await models.complete(ask("up"))).finish.provider == "up"

    async def test_can_be_opened_by_hand(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            (breaker,) = await models.update_breaker("up", "m", BreakerState.OPEN)
            assert (breaker.state, breaker.forced) == (BreakerState.OPEN, True)
            with pytest.raises(Unavailable, match="until it is closed by hand") as caught:
                await models.complete(ask("up"))
            assert caught.value.retry_after is None
        assert not up.requests

    async def test_can_be_closed_by_hand(self, opened):
        async with (
            openai_server(*[refuses(500)] * 3, Reply()) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await models.complete(ask("up"))
            (breaker,) = await models.update_breaker("up", "", BreakerState.CLOSED)
            assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)
            assert (await models.complete(ask("up"))).finish.provider == "up"

    async def test_can_not_be_half_opened_by_hand(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(InvalidInput):
                await models.update_breaker("up", "m", BreakerState.HALF_OPEN)

    @pytest.mark.parametrize(("name", "model"), [("who", ""), ("up", "what")])
    async def test_of_what_does_not_exist_is_not_found(self, opened, name, model):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(NotFound):
                await models.update_breaker(name, model, BreakerState.OPEN)


class TestLeaving:
    async def test_a_stream_early_frees_the_provider(self, opened):
        async with (
            openai_server(Reply(pieces=("a",), then=Then.HANG)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            async with aclosing(models.stream(ask("up"))) as steps:
                await anext(steps)
            await asyncio.wait_for(up.left.wait(), 5)

    async def test_while_waiting_frees_the_provider(self, opened):
        async with (
            openai_server(Reply(then=Then.HANG)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            waiting = asyncio.create_task(models.complete(ask("up")))
            await asyncio.wait_for(up.asked.wait(), 5)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.wait_for(up.left.wait(), 5)


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
                await stream(models, replace(ask("up"), messages=()))

    async def test_does_not_spoil_the_next_request(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(InvalidInput):
                await models.complete(replace(ask("up"), messages=()))
            assert (await models.complete(ask("up"))).finish.provider == "up"


class TestCost:
    async def test_is_known_where_the_price_is(self, opened):
        priced = ModelSettings("m", price=Price(input=2.0, output=10.0, cached=1.0))
        async with (
            openai_server(
                Reply(prompt_tokens=1000, completion_tokens=100, cached_tokens=400)
            ) as up,
            opened(
                ProviderSettings("up", "openai_compat", up.endpoint, models=(priced,))
            ) as models,
        ):
            usage = (await models.complete(ask("up"))).finish.usage
        assert usage.cost_usd == pytest.approx((600 * 2 + 400 * 1 + 100 * 10) / 1e6)

    async def test_comes_from_the_price_list(self, opened):
        prices = PriceList({"127.0.0.1": {"m": Price(1.0, 1.0)}})
        async with (
            openai_server(Reply(prompt_tokens=1, completion_tokens=1)) as up,
            opened(provider("up", up.endpoint), prices=prices) as models,
        ):
            usage = (await models.complete(ask("up"))).finish.usage
        assert usage.cost_usd == pytest.approx(2e-6)

    async def test_is_unknown_elsewhere_and_never_zero(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            assert (await models.complete(ask("up"))).finish.usage.cost_usd is None


class TestLists:
    async def test_have_models_by_provider_and_name(self, opened):
        able = ModelSettings("b", Capabilities(tools=True, context_window=8192), Price(1.0, 2.0))
        one = ProviderSettings("one", "ollama", models=(able, ModelSettings("a")))
        async with opened(provider("two", "http://127.0.0.1:9"), one) as models:
            does = frozenset({"chat", "embed"})
            told = replace(able.capabilities, json_schema=True)  # by the type itself
            assert await models.models() == [
                ModelInfo("one", "a", Capabilities(json_schema=True), does=does),
                ModelInfo("one", "b", told, 1.0, 2.0, does=does),
                ModelInfo("two", "m", Capabilities(), does=does),
            ]

    async def test_know_nothing_of_a_provider_before_its_first_call(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            (info,) = await models.providers()
        assert (info.name, info.kind, info.models) == ("up", "openai_compat", ("m",))
        assert (info.healthy, info.latency, info.breakers) == (None, None, ())

    async def test_tell_health_and_latency_after_a_call(self, opened):
        clock = Clock()
        async with (
            openai_server(Reply(pause=0.0)) as up,
            opened(provider("up", up.endpoint), clock=clock) as models,
        ):
            await models.complete(ask("up"))
            (info,) = await models.providers()
        assert (info.healthy, info.latency) == (True, 0.0)

    async def test_know_nothing_of_it_by_calls_to_another_address(self, opened):
        elsewhere = "http://127.0.0.1:9"
        async with (
            openai_server() as up,
            opened(provider("p", elsewhere)) as models,
        ):
            asked = ModelRef("p", "m", endpoint=up.endpoint)
            await models.complete(ChatRequest(ask("p").messages, (asked,)))
            (info,) = await models.providers()
        assert (info.endpoint, info.healthy, info.latency) == (elsewhere, None, None)
        assert [each.endpoint for each in info.breakers] == [up.endpoint]

    async def test_tell_why_a_provider_is_not_healthy(self, opened):
        async with (
            openai_server(refuses(500, "on fire")) as down,
            opened(provider("down", down.endpoint)) as models,
        ):
            with pytest.raises(Unavailable):
                await models.complete(ask("down"))
            (info,) = await models.providers()
        assert info.healthy is False
        assert "on fire" in info.detail
        assert [(each.model, each.failures) for each in info.breakers] == [("m", 1)]


def test_settings_with_an_unknown_strategy_are_refused():
    from servers.router.service import ModelRouter

    with pytest.raises(InvalidInput, match="no strategy 'cheapest'; known are"):
        ModelRouter(RouterSettings(default_strategy="cheapest"), None, env={})
