"""Who embeds or ranks when somebody can't, in process and over the wire alike."""

import asyncio

import pytest

from servers.domain.models import BreakerState
from servers.kernel.errors import InvalidInput, Unavailable
from tests.contract.router_fixture import Clock, opened, provider
from tests.contract.text_requests import chat, embed, of_kind, rerank
from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.cohere_server import cohere_server
from tests.scripted.http_server import Then, nobody, refuses
from tests.scripted.openai_server import openai_server
from tests.scripted.tei_server import tei_server
from tests.scripted.texts import Texts

__all__ = ["opened"]


class TestFallback:
    async def test_the_first_healthy_provider_embeds(self, opened):
        async with (
            nobody() as down,
            openai_server(refuses(503)) as broken,
            openai_server() as up,
            opened(
                provider("down", down),
                provider("broken", broken.endpoint),
                provider("up", up.endpoint),
            ) as models,
        ):
            assert (await models.embed(embed("down", "broken", "up"))).provider == "up"

    async def test_the_first_healthy_provider_ranks(self, opened):
        async with (
            cohere_server(refuses(429)) as busy,
            tei_server(kind="reranker") as up,
            opened(of_kind("busy", busy.endpoint, "cohere"), of_kind("up", up.endpoint)) as models,
        ):
            assert (await models.rerank(rerank("busy", "up"))).provider == "up"

    @pytest.mark.parametrize(
        "spoilt", [Texts(given=2), Texts(hole=True), Texts(length=0), Texts(then=Then.GARBAGE)]
    )
    async def test_a_bad_answer_is_no_answer(self, opened, spoilt):
        async with (
            openai_server(spoilt) as bad,
            openai_server() as up,
            opened(provider("bad", bad.endpoint), provider("up", up.endpoint)) as models,
        ):
            assert (await models.embed(embed("bad", "up"))).provider == "up"

    async def test_what_is_no_number_is_no_answer_in_base64_either(self, opened):
        async with (
            openai_server(Texts(hole=True)) as bad,
            openai_server() as up,
            opened(of_kind("bad", bad.endpoint, "openai"), provider("up", up.endpoint)) as models,
        ):
            assert (await models.embed(embed("bad", "up"))).provider == "up"

    async def test_ends_where_a_text_was_wrong(self, opened):
        async with (
            openai_server(refuses(400, "too long")) as strict,
            openai_server() as up,
            opened(provider("strict", strict.endpoint), provider("up", up.endpoint)) as models,
        ):
            with pytest.raises(InvalidInput, match="too long") as caught:
                await models.embed(embed("strict", "up"))
        assert caught.value.facts["provider"] == "strict"
        assert not up.requests

    async def test_that_finds_nobody_says_who_was_tried(self, opened):
        async with (
            openai_server(refuses(503, "too hot")) as down,
            opened(provider("down", down.endpoint)) as models,
        ):
            with pytest.raises(Unavailable, match=r"down/m: .* answered 503: too hot") as caught:
                await models.embed(embed("down"))
        assert caught.value.reason == "NO_PROVIDER_LEFT"


class TestABreaker:
    async def test_that_chats_opened_keeps_embeddings_away(self, opened):
        async with (
            openai_server(refuses(500)) as down,
            opened(provider("down", down.endpoint)) as models,
        ):
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await models.complete(chat("down"))
            with pytest.raises(Unavailable, match="left alone"):
                await models.embed(embed("down"))
        assert len(down.requests) == 3

    async def test_that_embeddings_opened_keeps_chats_away(self, opened):
        clock = Clock()
        async with (
            openai_server(refuses(500)) as down,
            opened(provider("down", down.endpoint), clock=clock) as models,
        ):
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await models.embed(embed("down"))
            with pytest.raises(Unavailable, match="left alone") as caught:
                await models.complete(chat("down"))
            assert caught.value.retry_after == 60
            (info,) = await models.providers()
        assert [(each.state, each.failures) for each in info.breakers] == [(BreakerState.OPEN, 3)]

    async def test_opens_for_rankings_too(self, opened):
        async with (
            cohere_server(refuses(500)) as down,
            opened(of_kind("down", down.endpoint, "cohere")) as models,
        ):
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await models.rerank(rerank("down"))
        assert len(down.requests) == 3

    async def test_is_not_moved_by_texts_that_are_refused(self, opened):
        async with (
            openai_server(*[refuses(413)] * 4, Texts()) as strict,
            opened(provider("strict", strict.endpoint)) as models,
        ):
            for _ in range(4):
                with pytest.raises(InvalidInput):
                    await models.embed(embed("strict"))
            assert (await models.embed(embed("strict"))).provider == "strict"


async def test_a_caller_who_leaves_ends_the_provider_s_work(opened):
    async with (
        openai_server(Texts(then=Then.HANG)) as up,
        opened(provider("up", up.endpoint)) as models,
    ):
        asking = asyncio.create_task(models.embed(embed("up")))
        await asyncio.wait_for(up.asked.wait(), PATIENCE)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(up.left.wait(), PROMPTLY)
