"""A circuit breaker leaves a model alone that keeps failing, in process and over the wire alike."""

import asyncio
from contextlib import aclosing

import pytest

from servers.domain.models import BreakerState
from servers.kernel.errors import InvalidInput, NotFound, Unavailable
from tests.contract.router_fixture import Clock, ask, opened, provider
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply, Then, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]


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
            await asyncio.wait_for(down.asked.wait(), PATIENCE)
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
