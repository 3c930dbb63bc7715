"""What every reranker promises: first all of them, then those that are reached over HTTP.

The rerankers are in text_fixture.py. The scripted servers give each document a score of its
own and answer best first, as real ones do: an adapter has to put them back in order.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import Http, open_http
from servers.router.adapters.texts.cohere import Cohere
from servers.router.adapters.texts.tei import TextEmbeddingsInference
from servers.router.ports import ProviderDown, RerankAsk, Timeouts
from tests.contract.text_fixture import HTTP_RERANKERS, RERANKERS, OverHttp
from tests.contract.text_subjects import Ranking
from tests.patience import PATIENCE, PROMPTLY, given_enough
from tests.scripted.cohere_server import cohere_server
from tests.scripted.http_server import Reply, Then, nobody, refuses
from tests.scripted.tei_server import tei_server
from tests.scripted.texts import Texts, score_for, tokens

QUERY = "Where does the cat sit?"
FEW = ("The cat sits on the mat.", "Interest rates rose again.", "Grüße aus 漢字 🦊")
MANY = tuple(f"document number {number}" for number in range(1000))


@pytest.fixture(params=RERANKERS)
async def subject(request, tmp_path) -> AsyncIterator[Ranking]:
    async with request.param(tmp_path) as opened:
        yield opened


class TestEveryReranker:
    async def scores(self, subject: Ranking, *documents: str, query: str = QUERY):
        asked = RerankAsk(subject.model, query, documents)
        return (await subject.reranker.rerank(asked)).scores

    async def test_gives_one_score_a_document(self, subject):
        assert len(await self.scores(subject, *FEW)) == len(FEW)

    async def test_keeps_the_order_of_the_documents(self, subject):
        forwards = await self.scores(subject, *FEW)
        backwards = await self.scores(subject, *FEW[::-1])
        assert forwards == pytest.approx(backwards[::-1], abs=1e-3)
        assert len(set(forwards)) == len(FEW)

    async def test_gives_the_same_document_the_same_score(self, subject):
        one, other = await self.scores(subject, FEW[0], FEW[0])
        assert one == pytest.approx(other, abs=1e-4)

    async def test_scores_by_the_query(self, subject):
        assert await self.scores(subject, *FEW) != await self.scores(subject, *FEW, query="money")

    async def test_takes_texts_in_every_script(self, subject):
        documents = ("Straße", "北京", "مرحبا", "🦊🦊", "e\u0301", "a\u200bb", "Ω\ufeff")
        assert len(await self.scores(subject, *documents, query="北京 🦊")) == len(documents)

    async def test_takes_a_thousand_documents(self, subject):
        assert len(await self.scores(subject, *MANY)) == len(MANY)

    async def test_tells_what_it_used(self, subject):
        one = await subject.reranker.rerank(RerankAsk(subject.model, QUERY, FEW[:1]))
        all_of_them = await subject.reranker.rerank(RerankAsk(subject.model, QUERY, FEW))
        assert 0 < one.usage.prompt_tokens < all_of_them.usage.prompt_tokens
        assert one.usage.completion_tokens == 0

    async def test_keeps_calls_at_the_same_time_apart(self, subject):
        alone = [(await self.scores(subject, each))[0] for each in FEW]
        found = await asyncio.gather(*(self.scores(subject, FEW[at % 3]) for at in range(24)))
        assert [score for (score,) in found] == pytest.approx(alone * 8, abs=1e-3)

    async def test_answers_others_after_a_caller_has_left(self, subject):
        leaving = asyncio.create_task(self.scores(subject, *MANY))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert len(await self.scores(subject, *FEW)) == len(FEW)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with open_http(clock=lambda: 0.0) as http:
        yield http


@pytest.fixture(params=HTTP_RERANKERS.values(), ids=HTTP_RERANKERS)
def kind(request) -> OverHttp:
    return request.param


def ask(*documents: str, **wanted) -> RerankAsk:
    return RerankAsk("m", QUERY, documents or FEW, **wanted)


class TestScoresOverHttp:
    async def found(self, kind, http, *replies: Reply, asked: RerankAsk | None = None):
        async with kind.server(*replies) as server:
            return await kind.adapter(server.endpoint, http).rerank(asked or ask())

    async def test_are_what_the_server_gave(self, kind, http):
        found = await self.found(kind, http, asked=ask(*MANY))
        wanted = [score_for(QUERY, each) for each in MANY]
        assert found.scores == pytest.approx(wanted, rel=1e-12)

    async def test_come_with_the_server_s_count(self, http):
        for kind in [each for name, each in HTTP_RERANKERS.items() if name != "cohere"]:
            used = (await self.found(kind, http, asked=ask(*MANY))).usage
            assert (used.prompt_tokens, used.estimated) == (tokens(MANY, QUERY), False)

    async def test_come_with_an_estimate_from_cohere_which_counts_searches(self, http):
        used = (await self.found(HTTP_RERANKERS["cohere"], http)).usage
        assert (used.prompt_tokens, used.estimated) == (-(-tokens(FEW, QUERY) // 4), True)

    async def test_come_with_an_estimate_where_nobody_counted(self, kind, http):
        used = (await self.found(kind, http, Texts(counted=False))).usage
        assert (used.prompt_tokens, used.estimated) == (-(-tokens(FEW, QUERY) // 4), True)


class TestARequest:
    async def bodies(self, kind, http, asked: RerankAsk):
        async with kind.server() as server:
            await kind.adapter(server.endpoint, http).rerank(asked)
        return [each.body for each in server.requests]

    async def test_has_no_more_documents_than_the_server_takes(self, kind, http):
        bodies = await self.bodies(kind, http, ask(*MANY))
        assert len(bodies) == -(-len(MANY) // kind.per_request)

    async def test_asks_for_all_scores(self, kind, http):
        (body,) = await self.bodies(kind, http, ask())
        assert "top_n" not in body
        assert body["query"] == QUERY

    async def test_has_the_key(self, kind, http):
        async with kind.server() as server:
            await kind.adapter(server.endpoint, http).rerank(ask(api_key="abc"))
        assert server.requests[0].headers[kind.key].removeprefix("Bearer ") == "abc"

    @pytest.mark.parametrize(
        ("given", "path"),
        [
            ("", "/v2/rerank"),
            ("/v2/", "/v2/rerank"),
            ("/v2/rerank", "/v2/rerank"),
            ("/v1", "/v1/rerank"),
            ("/v1/rerank", "/v1/rerank"),
        ],
    )
    async def test_finds_the_ranking_of_cohere_and_of_those_with_its_form(self, http, given, path):
        async with cohere_server() as server:
            await Cohere(server.endpoint + given, http).rerank(ask())
        assert server.requests[0].path == path

    async def test_is_counted_by_servers_of_cohere_s_form_that_count(self, http):
        async with cohere_server() as server:
            used = (await Cohere(server.endpoint + "/v1", http).rerank(ask())).usage
        assert (used.prompt_tokens, used.estimated) == (tokens(FEW, QUERY), False)


class TestAServerThatRefuses:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, InvalidInput),
            (413, InvalidInput),
            (422, InvalidInput),
            (401, NotReady),
            (403, NotReady),
            (404, NotReady),
            (501, NotReady),
        ],
    )
    async def test_the_request_is_not_down(self, kind, http, status, error):
        async with kind.server(refuses(status, "because")) as server:
            with pytest.raises(error, match="because"):
                await kind.adapter(server.endpoint, http).rerank(ask())

    @pytest.mark.parametrize("status", [408, 424, 429, 500, 503])
    async def test_for_the_time_being_is_down(self, kind, http, status):
        async with kind.server(refuses(status, "overloaded")) as server:
            with pytest.raises(ProviderDown, match="overloaded"):
                await kind.adapter(server.endpoint, http).rerank(ask())

    async def test_may_say_when_to_come_back(self, kind, http):
        async with kind.server(refuses(429, "slow down", Retry_After="30")) as server:
            with pytest.raises(ProviderDown) as caught:
                await kind.adapter(server.endpoint, http).rerank(ask())
        assert (caught.value.pause, caught.value.reason) == (30, "RATE_LIMITED")

    async def test_never_shows_the_key_it_quotes(self, kind, http):
        async with kind.server(refuses(401, "bad key zig-zag-zug")) as server:
            with pytest.raises(NotReady) as caught:
                await kind.adapter(server.endpoint, http).rerank(ask(api_key="zig-zag-zug"))
        assert "zig" not in caught.value.message

    async def test_a_document_that_is_too_long_is_the_caller_s_error(self, http):
        async with tei_server(kind="reranker") as server:
            with pytest.raises(InvalidInput, match=r"Given: 600"):
                await TextEmbeddingsInference(server.endpoint, http).rerank(ask("x" * 600))

    async def test_to_rank_because_it_embeds_is_told_apart(self, http):
        async with tei_server() as server:
            with pytest.raises(NotReady, match="no reranker model") as caught:
                await TextEmbeddingsInference(server.endpoint, http).rerank(ask())
        assert (caught.value.reason, server.requests) == ("MODEL_CANNOT", [])


class TestAServerThatFails:
    async def fails(self, kind, http, *replies: Reply) -> ProviderDown:
        async with kind.server(*replies) as server:
            with pytest.raises(ProviderDown) as caught:
                await kind.adapter(server.endpoint, http).rerank(ask())
        return caught.value

    async def test_is_down_where_the_connection_is_refused(self, kind, http):
        async with nobody() as address:
            with pytest.raises(ProviderDown, match="can't connect"):
                await kind.adapter(address, http).rerank(ask())

    @pytest.mark.parametrize("given", [0, 1, 2, 4])
    async def test_has_not_answered_with_another_number_of_scores(self, kind, http, given):
        failed = await self.fails(kind, http, Texts(given=given))
        assert failed.reason == "BAD_ANSWER"
        assert f"answered {given} scores for 3 texts" in failed.message

    async def test_has_not_answered_with_two_scores_for_one_document(self, http):
        async with tei_server(Texts(twice=True), kind="reranker") as server:
            with pytest.raises(ProviderDown) as caught:
                await TextEmbeddingsInference(server.endpoint, http).rerank(ask())
        assert caught.value.reason == "BAD_ANSWER"

    @pytest.mark.parametrize("then", [Then.GARBAGE, Then.STOP])
    async def test_has_not_answered_with_garbage(self, kind, http, then):
        assert (await self.fails(kind, http, Texts(then=then))).reason == "BAD_ANSWER"

    async def test_has_not_answered_with_what_is_no_number(self, kind, http):
        assert (await self.fails(kind, http, Texts(hole=True))).reason == "BAD_ANSWER"

    async def test_is_down_where_it_closes_in_the_middle(self, kind, http):
        await self.fails(kind, http, Texts(then=Then.CLOSE))

    async def test_is_down_where_it_hangs(self, kind, http):
        async with kind.server(Texts(then=Then.HANG)) as server:
            reranker = kind.adapter(server.endpoint, http)

            async def runs_out(seconds):
                says = f"whole answer within {seconds:g} s"
                with pytest.raises(ProviderDown, match=says) as caught:
                    await reranker.rerank(ask(timeouts=Timeouts(total=seconds)))
                assert caught.value.reason == "PROVIDER_TIMEOUT"

            await given_enough(runs_out, server.asked.is_set)
            await asyncio.wait_for(server.left.wait(), PROMPTLY)


@pytest.mark.parametrize("documents", [FEW, MANY], ids=["one batch", "many batches"])
async def test_leaving_ends_the_server_s_work(kind, http, documents):
    async with kind.server(Texts(then=Then.HANG)) as server:
        reranker = kind.adapter(server.endpoint, http)
        task = asyncio.create_task(reranker.rerank(ask(*documents)))
        await asyncio.wait_for(server.asked.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.left.wait(), PROMPTLY)
