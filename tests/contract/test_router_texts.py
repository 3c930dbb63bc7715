"""What `Router` promises of embeddings and rankings, in process and over the wire alike."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from servers.domain.chat import ModelRef, Usage
from servers.domain.embeddings import Purpose, Ranked
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.ports import Price
from servers.router.routing.prices import PriceList
from tests.contract.router_fixture import opened, provider
from tests.contract.text_requests import FEW, QUERY, chat, declares, embed, of_kind, rerank
from tests.scripted.azure_server import azure_server
from tests.scripted.cohere_server import cohere_server
from tests.scripted.llamacpp_server import llamacpp_server
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tei_server import tei_server
from tests.scripted.texts import Texts, score_for, tokens, vector_for
from tests.scripted.vllm_server import vllm_server

__all__ = ["opened"]


def length(vector: Sequence[float]) -> float:
    return sum(number * number for number in vector) ** 0.5


def direction(text: str) -> list[float]:
    found = vector_for(text)
    return [number / length(found) for number in found]


class TestVectors:
    async def test_are_one_a_text_in_their_order(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            found = await models.embed(embed("up"))
        assert [list(each) for each in found.vectors] == [
            pytest.approx(direction(text), abs=1e-6) for text in FEW
        ]
        assert (found.provider, found.model) == ("up", "m")

    async def test_have_length_1_whatever_the_model_gives(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            found = await models.embed(embed("up"))
        assert [length(vector_for(text)) for text in FEW] != pytest.approx([1, 1, 1], abs=0.1)
        assert [length(each) for each in found.vectors] == pytest.approx([1, 1, 1], abs=1e-6)

    @pytest.mark.parametrize(
        ("kind", "server"),
        [
            ("openai", openai_server),
            ("openai_compat", openai_server),
            ("azure_openai", azure_server),
            ("vllm", vllm_server),
            ("llamacpp", llamacpp_server),
            ("ollama", ollama_server),
            ("tei", tei_server),
            ("cohere", cohere_server),
        ],
    )
    async def test_come_from_every_type_that_has_them(self, opened, kind, server):
        env = {"AZURE_OPENAI_API_KEY": "abc"}
        async with (
            server() as up,
            opened(of_kind("up", up.endpoint, kind, dimensions=8), env=env) as models,
        ):
            found = await models.embed(embed("up"))
        assert [list(each) for each in found.vectors] == [
            pytest.approx(direction(text), abs=1e-6) for text in FEW
        ]

    async def test_come_from_a_type_that_no_manifest_declares(self, opened):
        async with ollama_server() as up, opened() as models:
            ref = ModelRef("ollama", "nomic-embed-text", endpoint=up.endpoint)
            found = await models.embed(replace(embed(), candidates=(ref,)))
        assert (found.provider, found.model) == ("ollama", "nomic-embed-text")

    async def test_may_be_2048(self, opened):
        texts = [f"text number {number}" for number in range(2048)]
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            found = await models.embed(embed("up", texts=texts))
        assert len(found.vectors) == 2048
        assert list(found.vectors[2047]) == pytest.approx(direction(texts[2047]), abs=1e-6)

    async def test_are_made_for_the_purpose_that_was_said(self, opened):
        async with cohere_server() as up, opened(of_kind("up", up.endpoint, "cohere")) as models:
            await models.embed(embed("up", purpose=Purpose.QUERY))
        assert up.requests[0].body["input_type"] == "search_query"

    async def test_have_as_many_numbers_as_are_asked_for(self, opened):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            found = await models.embed(embed("up", dimensions=5))
        assert [len(each) for each in found.vectors] == [5, 5, 5]

    async def test_of_a_provider_whose_option_says_so_are_of_texts_that_were_cut(self, opened):
        cutting = replace(of_kind("up", ""), options=(("truncate", True),))
        async with (
            tei_server(longest=4) as up,
            opened(replace(cutting, endpoint=up.endpoint)) as models,
        ):
            assert len((await models.embed(embed("up"))).vectors) == 3


class TestAnotherNumberOfDimensions:
    async def mismatch(self, opened, *, asked: int | None, **declared) -> NotReady:
        async with (
            openai_server(Texts(length=8)) as up,
            openai_server() as other,
            opened(
                declares("up", up.endpoint, **declared), provider("other", other.endpoint)
            ) as models,
        ):
            up.dialect.posts = {"/v1/embeddings": _deaf}  # to `dimensions`, as llama.cpp is
            with pytest.raises(NotReady) as caught:
                await models.embed(embed("up", "other", dimensions=asked))
        assert not other.requests
        return caught.value

    async def test_than_was_declared_is_an_error(self, opened):
        error = await self.mismatch(opened, asked=None, dimensions=384)
        assert error.reason == "DIMENSION_MISMATCH"
        assert error.facts == {"provider": "up", "model": "m", "expected": "384", "got": "8"}

    async def test_than_was_asked_for_is_an_error(self, opened):
        error = await self.mismatch(opened, asked=5)
        assert (error.reason, error.facts["expected"]) == ("DIMENSION_MISMATCH", "5")

    async def test_is_what_declared_models_can_be_asked_for(self, opened):
        async with (
            openai_server() as up,
            opened(declares("up", up.endpoint, dimensions=8)) as models,
        ):
            found = await models.embed(embed("up", dimensions=5))
        assert len(found.vectors[0]) == 5


def _deaf(reply, asked):
    from tests.scripted.openai_texts import embeddings

    return embeddings(reply, {key: each for key, each in asked.items() if key != "dimensions"})


class TestARanking:
    async def test_has_the_best_first(self, opened):
        async with (
            tei_server(kind="reranker") as up,
            opened(of_kind("up", up.endpoint)) as models,
        ):
            found = await models.rerank(rerank("up"))
        scores = {at: score_for(QUERY, each) for at, each in enumerate(FEW)}
        best = sorted(scores, key=lambda at: -scores[at])
        assert found.ranked == tuple(
            Ranked(at, pytest.approx(scores[at], rel=1e-12)) for at in best
        )
        assert (found.provider, found.model) == ("up", "BAAI/bge-small-en-v1.5")

    @pytest.mark.parametrize(
        ("kind", "server"),
        [
            ("vllm", vllm_server),
            ("llamacpp", llamacpp_server),
            ("tei", partial(tei_server, kind="reranker")),
            ("cohere", cohere_server),
        ],
    )
    async def test_comes_from_every_type_that_has_them(self, opened, kind, server):
        async with server() as up, opened(of_kind("up", up.endpoint, kind)) as models:
            found = await models.rerank(rerank("up"))
        assert {each.index: each.score for each in found.ranked} == pytest.approx(
            {at: score_for(QUERY, each) for at, each in enumerate(FEW)}
        )

    async def test_has_only_as_many_as_are_wanted(self, opened):
        async with (
            cohere_server() as up,
            opened(of_kind("up", up.endpoint, "cohere")) as models,
        ):
            everything = await models.rerank(rerank("up"))
            found = await models.rerank(rerank("up", top_n=2))
            generous = await models.rerank(rerank("up", top_n=99))
        assert found.ranked == everything.ranked[:2]
        assert generous.ranked == everything.ranked

    async def test_keeps_the_order_of_equals(self, opened):
        async with (
            cohere_server() as up,
            opened(of_kind("up", up.endpoint, "cohere")) as models,
        ):
            found = await models.rerank(rerank("up", documents=["same"] * 50))
        assert [each.index for each in found.ranked] == list(range(50))

    async def test_may_be_of_a_thousand_documents(self, opened):
        documents = [f"document number {number}" for number in range(1000)]
        async with (
            tei_server(kind="reranker") as up,
            opened(of_kind("up", up.endpoint)) as models,
        ):
            found = await models.rerank(rerank("up", documents=documents))
        assert sorted(each.index for each in found.ranked) == list(range(1000))
        assert list(found.ranked) == sorted(found.ranked, key=lambda each: -each.score)


class TestUsage:
    async def test_is_the_provider_s_with_its_price(self, opened):
        async with (
            openai_server() as up,
            opened(declares("up", up.endpoint, price=Price(2.0, 0.0))) as models,
        ):
            used = (await models.embed(embed("up"))).usage
        assert used == Usage(tokens(FEW), cost_usd=pytest.approx(tokens(FEW) * 2e-6))

    async def test_of_a_ranking_has_its_price_too(self, opened):
        async with (
            tei_server(kind="reranker") as up,
            opened(of_kind("up", up.endpoint, price=Price(2.0, 0.0))) as models,
        ):
            used = (await models.rerank(rerank("up"))).usage
        count = tokens(FEW, QUERY)
        assert used == Usage(count, cost_usd=pytest.approx(count * 2e-6))

    async def test_has_the_price_of_the_list(self, opened):
        prices = PriceList({"127.0.0.1": {"m": Price(1.0, 0.0)}})
        async with (
            openai_server() as up,
            opened(provider("up", up.endpoint), prices=prices) as models,
        ):
            used = (await models.embed(embed("up"))).usage
        assert used.cost_usd == pytest.approx(tokens(FEW) * 1e-6)

    async def test_says_where_it_is_an_estimate(self, opened):
        async with (
            openai_server(Texts(counted=False)) as up,
            opened(provider("up", up.endpoint)) as models,
        ):
            used = (await models.embed(embed("up"))).usage
        assert used == Usage(-(-tokens(FEW) // 4), estimated=True)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("texts", "says"),
        [
            ((), "texts: there is no text"),
            (("a", " \n"), r"texts\[1\]: the text is empty"),
            (("a",) * 2049, "at most 2048 texts at once, not 2049"),
        ],
        ids=["none", "empty", "too many"],
    )
    async def test_texts(self, opened, texts, says):
        async with openai_server() as up, opened(provider("up", up.endpoint)) as models:
            with pytest.raises(InvalidInput, match=says) as caught:
                await models.embed(embed("up", texts=texts))
        assert (caught.value.reason, up.requests) == ("INVALID_REQUEST", [])

    async def test_no_dimensions(self, opened):
        async with opened(provider("up", "http://127.0.0.1:9")) as models:
            with pytest.raises(InvalidInput, match="dimensions"):
                await models.embed(embed("up", dimensions=0))

    @pytest.mark.parametrize(
        ("request_", "says"),
        [
            (replace(rerank("up"), query=" "), "query"),
            (rerank("up", documents=()), "no document"),
            (rerank("up", documents=("a",) * 1001), "at most 1000 documents at once"),
            (rerank("up", top_n=0), "top_n"),
        ],
        ids=["no query", "no documents", "too many", "none wanted"],
    )
    async def test_rankings(self, opened, request_, says):
        async with cohere_server() as up, opened(of_kind("up", up.endpoint, "cohere")) as models:
            with pytest.raises(InvalidInput, match=says):
                await models.rerank(request_)
        assert not up.requests

    async def test_embeddings_of_a_type_that_has_none(self, opened):
        async with opened() as models:
            with pytest.raises(InvalidInput, match="can't embed") as caught:
                await models.embed(replace(embed(), candidates=(ModelRef("local"),)))
        assert caught.value.reason == "PROVIDER_UNFIT"

    @pytest.mark.parametrize("kind", ["openai_compat", "openai", "ollama", "hf_tgi"])
    async def test_rankings_of_a_type_that_has_none(self, opened, kind):
        async with opened(of_kind("up", "http://127.0.0.1:9", kind)) as models:
            with pytest.raises(InvalidInput, match="can't rerank"):
                await models.rerank(rerank("up"))

    @pytest.mark.parametrize("kind", ["tei", "cohere"])
    async def test_chats_with_a_type_that_has_none(self, opened, kind):
        async with opened(of_kind("up", "http://127.0.0.1:9", kind)) as models:
            with pytest.raises(InvalidInput, match="can't chat; it can embed, rerank"):
                await models.complete(chat("up"))


class TestLists:
    async def test_tell_what_models_of_each_type_do(self, opened):
        async with opened(
            of_kind("a", "http://127.0.0.1:9", "tei"), of_kind("b", "http://127.0.0.1:9", "cohere")
        ) as models:
            assert [each.does for each in await models.models()] == [{"embed", "rerank"}] * 2

    async def test_tell_how_a_provider_without_chats_is(self, opened):
        async with tei_server() as up, opened(of_kind("up", up.endpoint)) as models:
            await models.embed(embed("up"))
            (info,) = await models.providers()
        assert (info.name, info.kind, info.healthy) == ("up", "tei", True)


async def test_without_candidates_the_embedded_model_answers(opened):
    async with opened() as models:
        found = await models.embed(embed())
        ranking = await models.rerank(rerank())
    assert len(found.vectors) == len(FEW)
    assert ranking.ranked[0].index == 0
