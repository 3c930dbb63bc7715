"""What the router tells of its models, providers and costs, in process and over the wire alike."""

from dataclasses import replace

import pytest

from servers.domain.chat import ChatRequest, ModelRef
from servers.domain.models import Capabilities, ModelInfo
from servers.kernel.errors import Unavailable
from servers.router.ports import ModelSettings, Price, ProviderSettings
from servers.router.routing.prices import PriceList
from tests.contract.router_fixture import Clock, ask, opened, provider
from tests.scripted.http_server import Reply, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["opened"]


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
