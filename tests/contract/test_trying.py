"""How the router tries again, hedges and waits for its turn, in process and over the wire alike."""

import asyncio
from dataclasses import replace

import pytest

from servers.domain.chat import Sampling, Speaker, TextPiece
from servers.kernel.errors import InvalidInput, Unavailable
from servers.router.ports import Hedging, Limits, Price, Retries, Timeouts
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
from tests.scripted.http_server import Reply, Then, nobody, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]
SOON = Retries(max_retries=2, base_delay=0.001, max_delay=0.01)


class TestRetries:
    async def test_ask_all_again_when_everybody_failed(self, opened):
        async with (
            openai_server(refuses(500), Reply()) as shaky,
            opened(provider("shaky", shaky.endpoint), retries=SOON) as models,
        ):
            assert await answered(models, ask("shaky")) == "shaky"
        assert len(shaky.requests) == 2

    async def test_come_after_the_fallbacks(self, opened):
        async with (
            openai_server(refuses(500)) as down,
            openai_server(Reply()) as up,
            opened(
                provider("down", down.endpoint), provider("up", up.endpoint), retries=SOON
            ) as models,
        ):
            assert await answered(models, ask("down", "up")) == "up"
        assert len(down.requests) == 1

    async def test_come_to_an_end(self, opened):
        async with (
            openai_server(refuses(500)) as down,
            opened(provider("down", down.endpoint), retries=SOON, failure_threshold=100) as models,
        ):
            with pytest.raises(Unavailable):
                await models.complete(ask("down"))
        assert len(down.requests) == 3

    async def test_of_a_stream_happen_before_its_first_piece(self, opened):
        cut = Reply(pieces=(), then=Then.CLOSE)
        async with (
            openai_server(cut, Reply(pieces=("hi",))) as shaky,
            opened(provider("shaky", shaky.endpoint), retries=SOON) as models,
        ):
            assert (await streamed(models, ask("shaky")))[0] == TextPiece("hi")

    async def test_are_only_for_the_failures_that_are_named(self, opened):
        only = replace(SOON, on=frozenset({"connection"}))
        async with (
            openai_server(refuses(500), Reply()) as shaky,
            opened(provider("shaky", shaky.endpoint), retries=only) as models,
        ):
            with pytest.raises(Unavailable):
                await models.complete(ask("shaky"))
        assert len(shaky.requests) == 1

    async def test_are_not_for_requests_that_are_wrong(self, opened):
        async with (
            openai_server(refuses(400)) as strict,
            opened(provider("strict", strict.endpoint), retries=SOON) as models,
        ):
            with pytest.raises(InvalidInput):
                await models.complete(ask("strict"))
        assert len(strict.requests) == 1

    async def test_wait_for_as_long_as_the_provider_said(self, opened):
        async with (
            openai_server(refuses(429, Retry_After="0.05"), Reply()) as busy,
            opened(provider("busy", busy.endpoint), retries=replace(SOON, max_delay=1.0)) as models,
        ):
            assert await answered(models, ask("busy")) == "busy"

    async def test_do_not_wait_for_longer_than_they_may(self, opened):
        async with (
            openai_server(refuses(429, Retry_After="30"), Reply()) as busy,
            opened(provider("busy", busy.endpoint), retries=SOON, clock=Clock()) as models,
        ):
            with pytest.raises(Unavailable) as caught:
                await models.complete(ask("busy"))
        assert caught.value.retry_after == pytest.approx(30)
        assert len(busy.requests) == 1


class TestHedging:
    async def test_asks_a_second_one_where_the_first_is_slow_to_begin(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as slow,
            openai_server(Reply(pieces=("hi",))) as other,
            opened(
                provider("slow", slow.endpoint), provider("other", other.endpoint), hedging=QUICK
            ) as models,
        ):
            *pieces, finish = await streamed(models, ask("slow", "other", hedge=True))
            await asyncio.wait_for(slow.left.wait(), PROMPTLY)  # the loser is left at once
        assert (pieces, finish.provider) == ([Speaker("other", "m"), TextPiece("hi")], "other")

    async def test_says_what_the_loser_used(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as slow,
            openai_server() as other,
            opened(
                able("slow", slow.endpoint, price=Price(1000, 1000)),
                provider("other", other.endpoint),
                hedging=QUICK,
            ) as models,
        ):
            answer = await models.complete(ask("slow", "other", hedge=True))
        (loser,) = answer.finish.besides
        assert (loser.provider, loser.usage.estimated) == ("slow", True)
        assert loser.usage.cost_usd > 0

    async def test_asks_nobody_else_where_the_first_is_quick(self, opened):
        async with (
            openai_server() as quick,
            openai_server() as other,
            opened(
                provider("quick", quick.endpoint),
                provider("other", other.endpoint),
                hedging=Hedging(min_delay=PATIENCE),
            ) as models,
        ):
            assert await answered(models, ask("quick", "other", hedge=True)) == "quick"
        assert not other.requests

    async def test_is_only_for_who_wants_it(self, opened):
        async with (
            openai_server(Reply(pause=0.2)) as slow,
            openai_server() as other,
            opened(
                provider("slow", slow.endpoint), provider("other", other.endpoint), hedging=QUICK
            ) as models,
        ):
            assert await answered(models, ask("slow", "other")) == "slow"
        assert not other.requests

    async def test_lets_the_first_one_win_after_all(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as slower,
            openai_server(Reply(pieces=("first",), hold=slower.asked)) as slow,
            opened(
                provider("slow", slow.endpoint), provider("slower", slower.endpoint), hedging=QUICK
            ) as models,
        ):
            answer = await models.complete(ask("slow", "slower", hedge=True))
            await asyncio.wait_for(slower.left.wait(), PROMPTLY)
        assert (answer.message.text, answer.finish.provider) == ("first", "slow")
        assert [each.provider for each in answer.finish.besides] == ["slower"]

    async def test_falls_back_where_the_first_one_fails(self, opened):
        async with (
            nobody() as down,
            openai_server(Reply(pieces=("hi",))) as up,
            opened(provider("down", down), provider("up", up.endpoint), hedging=QUICK) as models,
        ):
            answer = await models.complete(ask("down", "up", hedge=True))
        assert (answer.message.text, answer.finish.besides) == ("hi", ())

    async def test_fails_where_everybody_does(self, opened):
        async with (
            nobody() as down,
            opened(provider("a", down), provider("b", down), hedging=QUICK) as models,
        ):
            with pytest.raises(Unavailable, match=r"a/m: .*b/m: "):
                await models.complete(ask("a", "b", hedge=True))

    async def test_a_caller_who_leaves_ends_all_of_them(self, opened):
        hang = Reply(pieces=(), then=Then.HANG)
        async with (
            openai_server(hang) as one,
            openai_server(hang) as two,
            opened(
                provider("one", one.endpoint), provider("two", two.endpoint), hedging=QUICK
            ) as models,
        ):
            waiting = asyncio.create_task(models.complete(ask("one", "two", hedge=True)))
            await asyncio.wait_for(two.asked.wait(), PATIENCE)
            waiting.cancel()
            await asyncio.wait_for(asyncio.gather(one.left.wait(), two.left.wait()), PROMPTLY)

    async def test_leaves_the_loser_s_breaker_as_it_was(self, opened):
        async with (
            openai_server(Reply(pieces=(), then=Then.HANG)) as slow,
            openai_server() as other,
            opened(
                provider("slow", slow.endpoint), provider("other", other.endpoint), hedging=QUICK
            ) as models,
        ):
            await models.complete(ask("slow", "other", hedge=True))
            providers = {each.name: each for each in await models.providers()}
        (breaker,) = providers["slow"].breakers
        assert (breaker.failures, providers["slow"].active) == (0, 0)


class TestLimits:
    async def test_at_them_a_provider_is_passed_over(self, opened):
        held = asyncio.Event()
        async with (
            openai_server(Reply(hold=held)) as narrow,
            openai_server() as other,
            opened(
                replace(provider("narrow", narrow.endpoint), limits=Limits(concurrency=1)),
                provider("other", other.endpoint),
            ) as models,
        ):
            first = asyncio.create_task(answered(models, ask("narrow", "other")))
            await asyncio.wait_for(narrow.asked.wait(), PATIENCE)
            assert await answered(models, ask("narrow", "other")) == "other"
            held.set()
            assert await first == "narrow"

    async def test_who_has_nobody_else_waits(self, opened):
        async with (
            openai_server() as narrow,
            opened(
                replace(provider("narrow", narrow.endpoint), limits=Limits(concurrency=1))
            ) as models,
        ):
            answers = await asyncio.gather(*(answered(models, ask("narrow")) for _ in range(10)))
        assert answers == ["narrow"] * 10

    async def test_who_waits_too_long_hears_why(self, opened):
        async with (
            openai_server() as narrow,
            opened(
                replace(
                    provider("narrow", narrow.endpoint),
                    limits=Limits(requests_per_minute=1, max_wait=0.01),
                ),
                clock=Clock(),
            ) as models,
        ):
            await models.complete(ask("narrow"))
            with pytest.raises(Unavailable, match="narrow is at its limits") as caught:
                await models.complete(ask("narrow"))
        assert caught.value.facts["cause"] == "PROVIDER_BUSY"
        assert caught.value.retry_after == pytest.approx(60)

    async def test_of_tokens_are_corrected_by_what_was_used(self, opened):
        async with (
            openai_server(Reply(prompt_tokens=900, completion_tokens=100)) as greedy,
            opened(
                replace(
                    provider("greedy", greedy.endpoint),
                    limits=Limits(tokens_per_minute=1000, max_wait=0.01),
                ),
                clock=Clock(),
            ) as models,
        ):
            bounded = ask("greedy", sampling=Sampling(max_tokens=10))
            await models.complete(bounded)
            with pytest.raises(Unavailable, match="at its limits"):
                await models.complete(bounded)

    async def test_are_seen_in_the_list(self, opened):
        held = asyncio.Event()
        async with (
            openai_server(Reply(hold=held)) as narrow,
            opened(
                replace(provider("narrow", narrow.endpoint), limits=Limits(concurrency=1))
            ) as models,
        ):
            calls = [asyncio.create_task(models.complete(ask("narrow"))) for _ in range(3)]
            await asyncio.wait_for(narrow.asked.wait(), PATIENCE)

            async def seen():
                (info,) = await models.providers()
                return (info.active, info.waiting) == (1, 2)

            await until(seen)
            held.set()
            await asyncio.gather(*calls)


async def test_a_time_out_is_worth_a_retry(opened):
    often = replace(SOON, max_retries=100)  # a busy machine may need more than a second time
    async with (
        openai_server(Reply(pieces=(), then=Then.HANG), Reply()) as shaky,
        opened(
            replace(provider("shaky", shaky.endpoint), timeouts=Timeouts(total=0.3)),
            retries=often,
            failure_threshold=1000,
        ) as models,
    ):
        assert await answered(models, ask("shaky")) == "shaky"
