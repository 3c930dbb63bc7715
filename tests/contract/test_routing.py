"""How the router chooses, waits, tries again and hedges, in process and over the wire alike."""

import asyncio
from dataclasses import replace

import pytest

from servers.domain.chat import Finish, ModelRef, Role, Speaker, TextPiece, ToolSpec, says
from servers.domain.embeddings import CountRequest
from servers.domain.models import BreakerState
from servers.kernel.errors import InvalidInput, NotReady, Unavailable
from servers.router.ports import ModelSettings, Price, ProviderSettings
from tests.contract.router_fixture import (
    QUICK,
    Clock,
    able,
    answered,
    ask,
    opened,
    provider,
    streamed,
)
from tests.patience import PATIENCE, PROMPTLY, until
from tests.scripted.http_server import Reply, Then, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]


class TestAStrategy:
    async def test_takes_turns(self, opened):
        async with (
            openai_server() as up,
            opened(*(provider(each, up.endpoint) for each in "abc")) as models,
        ):
            request = ask("a", "b", "c", strategy="round_robin")
            assert [await answered(models, request) for _ in range(5)] == list("abcab")

    async def test_takes_turns_with_one_that_fails_too(self, opened):
        async with (
            openai_server() as up,
            openai_server(refuses(500)) as down,
            opened(
                provider("a", down.endpoint),
                provider("b", up.endpoint),
                provider("c", up.endpoint),
            ) as models,
        ):
            request = ask("a", "b", "c", strategy="round_robin")
            assert [await answered(models, request) for _ in range(3)] == ["b", "c", "b"]

    async def test_takes_the_cheapest(self, opened):
        async with (
            openai_server() as up,
            opened(
                able("dear", up.endpoint, price=Price(9, 9)),
                able("cheap", up.endpoint, price=Price(1, 1)),
            ) as models,
        ):
            request = ask("dear", "cheap", strategy="cost_optimized")
            assert await answered(models, request) == "cheap"

    async def test_takes_the_best(self, opened):
        async with (
            openai_server() as up,
            opened(able("b", up.endpoint, rank=2), able("a", up.endpoint, rank=1)) as models,
        ):
            assert await answered(models, ask("b", "a", strategy="quality_first")) == "a"

    async def test_takes_the_fastest_once_all_are_measured(self, opened):
        clock, hold = Clock(), asyncio.Event()
        async with (
            openai_server(Reply(hold=hold)) as slow,
            openai_server() as fast,
            opened(
                provider("slow", slow.endpoint), provider("fast", fast.endpoint), clock=clock
            ) as models,
        ):
            request = ask("slow", "fast", strategy="latency_optimized")
            first = asyncio.create_task(answered(models, request))
            await asyncio.wait_for(slow.asked.wait(), PATIENCE)
            clock.now += 1.0
            hold.set()
            assert await first == "slow"
            assert [await answered(models, request) for _ in range(2)] == ["fast", "fast"]

    async def test_takes_who_declares_what_is_needed(self, opened):
        async with (
            openai_server() as up,
            opened(able("silent", up.endpoint), able("able", up.endpoint, tools=True)) as models,
        ):
            tools = (ToolSpec("t", "", {"type": "object"}),)
            request = ask("silent", "able", strategy="capability_match", tools=tools)
            assert await answered(models, request) == "able"

    async def test_of_the_configuration_holds_where_a_request_is_silent(self, opened):
        async with (
            openai_server() as up,
            opened(
                able("b", up.endpoint, rank=2),
                able("a", up.endpoint, rank=1),
                default_strategy="quality_first",
            ) as models,
        ):
            assert await answered(models, ask("b", "a")) == "a"
            assert await answered(models, ask("b", "a", strategy="in_order")) == "b"


class TestAPrompt:
    LONG = says(Role.USER, "word " * 2000)

    async def test_too_long_for_a_model_goes_to_another(self, opened):
        async with (
            openai_server() as up,
            opened(
                able("narrow", up.endpoint, context_window=1000),
                able("wide", up.endpoint, context_window=100_000),
            ) as models,
        ):
            request = replace(ask("narrow", "wide"), messages=(self.LONG,))
            assert await answered(models, request) == "wide"

    async def test_too_long_for_all_is_refused_before_anything_goes_out(self, opened):
        async with (
            openai_server() as up,
            opened(able("narrow", up.endpoint, context_window=1000)) as models,
        ):
            with pytest.raises(NotReady, match=r"its window has 1000") as caught:
                await models.complete(replace(ask("narrow"), messages=(self.LONG,)))
        assert (caught.value.reason, up.requests) == ("MODEL_CANNOT", [])


class TestAModelThatCannotStream:
    async def test_is_streamed_in_one_piece(self, opened):
        async with (
            openai_server(Reply(pieces=("a", "b"))) as up,
            opened(able("up", up.endpoint, streaming=False)) as models,
        ):
            steps = await streamed(models, ask("up"))
        assert (steps[0], type(steps[1]), len(steps)) == (TextPiece("ab"), Finish, 2)
        assert up.requests[0].body["stream"] is False


class TestASpeaker:
    async def test_is_named_before_the_first_piece_where_it_is_not_the_first_candidate(
        self, opened
    ):
        async with (
            openai_server(refuses(500)) as down,
            openai_server(Reply(("Good ", "day"))) as up,
            opened(provider("a", down.endpoint), provider("b", up.endpoint)) as models,
        ):
            *steps, _ = await streamed(models, ask("a", "b"))
        assert steps == [Speaker("b", "m"), TextPiece("Good "), TextPiece("day")]

    async def test_goes_without_saying_where_it_is_the_first_candidate(self, opened):
        async with (
            openai_server(Reply(("Good ", "day"))) as up,
            opened(provider("a", up.endpoint)) as models,
        ):
            *steps, _ = await streamed(models, ask("a"))
        assert steps == [TextPiece("Good "), TextPiece("day")]

    async def test_is_the_hedge_where_that_begins_first(self, opened):
        async with (
            openai_server(Reply(("late",), hold=asyncio.Event())) as slow,
            openai_server(Reply(("soon",))) as quick,
            opened(
                provider("a", slow.endpoint), provider("b", quick.endpoint), hedging=QUICK
            ) as models,
        ):
            first, *_ = await streamed(models, ask("a", "b", hedge=True))
        assert first == Speaker("b", "m")


class TestWhatIsTaken:
    """A place, a breaker's admission: all is given back, whatever way a call ends."""

    @pytest.mark.parametrize("heard", [answered, streamed], ids=["whole", "streamed"])
    @pytest.mark.parametrize("reply", [refuses(500), refuses(400)], ids=["failed", "refused"])
    async def test_is_given_back_by_a_call_that_fails(self, opened, heard, reply):
        async with (
            openai_server(reply) as server,
            opened(provider("up", server.endpoint)) as models,
        ):
            with pytest.raises((Unavailable, InvalidInput)):
                await heard(models, ask("up"))
            (info,) = await models.providers()
        assert info.active == 0

    @pytest.mark.parametrize("heard", [answered, streamed], ids=["whole", "streamed"])
    async def test_is_given_back_where_a_key_is_missing(self, opened, heard):
        keyed = ProviderSettings("keyed", "openai_compat", "http://127.0.0.1:9", "", "NO_KEY")
        async with opened(keyed) as models:
            for _ in range(5):
                with pytest.raises(NotReady, match="NO_KEY"):
                    await heard(models, ask("keyed"))
            (info,) = await models.providers()
        assert (info.active, info.breakers[0].state) == (0, BreakerState.CLOSED)

    async def test_is_given_back_by_a_caller_who_leaves(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as server,
            opened(provider("up", server.endpoint)) as models,
        ):
            waiting = asyncio.create_task(models.complete(ask("up")))
            await asyncio.wait_for(server.asked.wait(), PATIENCE)
            waiting.cancel()
            await asyncio.wait_for(server.left.wait(), PROMPTLY)

            async def idle():
                (info,) = await models.providers()
                return not info.active

            await until(idle)


class TestLatency:
    async def test_of_the_first_piece_is_told_apart_from_the_whole(self, opened):
        async with (
            openai_server(Reply(pieces=("a", "b", "c"), pause=0.03)) as slow,
            opened(provider("slow", slow.endpoint)) as models,
        ):
            await streamed(models, ask("slow"))
            (info,) = await models.providers()
        assert 0 < info.first_token < info.latency


class TestModels:
    async def test_are_listed_though_one_provider_can_not_be_made(self, opened):
        broken = ProviderSettings(
            "broken", "openai_compat", "no address", models=(ModelSettings("m"),)
        )
        async with opened(broken, provider("up", "http://127.0.0.1:9")) as models:
            assert [each.provider for each in await models.models()] == ["broken", "up"]


class TestTokens:
    async def test_are_estimated_where_nothing_counts_them(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            request = CountRequest(ModelRef("up", "who-knows"), (says(Role.USER, "x" * 400),))
            count = await models.count_tokens(request)
        assert (count.exact, count.counted_by) == (False, "4 bytes a token")
        assert count.tokens == pytest.approx(100, abs=10)

    async def test_of_no_message_are_refused(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(InvalidInput, match="no message"):
                await models.count_tokens(CountRequest(ModelRef("up", "m"), ()))
