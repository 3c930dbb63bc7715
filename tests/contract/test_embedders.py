"""What every embedder promises: first all of them, then those that are reached over HTTP, of
which test_embedder_failures.py has more.

The embedders are in text_fixture.py. The scripted servers stand for other people's; they give
each text a vector of its own, so that a mistaken order is seen.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Sequence

import pytest

from servers.domain.embeddings import Purpose
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import Http, open_http
from servers.router.adapters.ollama.provider import Ollama
from servers.router.adapters.openai.compat import OpenAI, OpenAICompat
from servers.router.adapters.texts.batches import AT_ONCE
from servers.router.adapters.texts.cohere import Cohere
from servers.router.adapters.texts.tei import TextEmbeddingsInference
from servers.router.ports import EmbedAsk, ProviderDown
from tests.contract.text_fixture import (
    EMBEDDERS,
    HTTP_EMBEDDERS,
    IN_BASE64,
    OverHttp,
)
from tests.contract.text_subjects import Embedding
from tests.patience import PATIENCE
from tests.scripted.cohere_server import cohere_server
from tests.scripted.http_server import Reply, refuses
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tei_server import tei_server
from tests.scripted.texts import LENGTH, Texts, tokens, vector_for
from tests.scripted.tgi_server import tgi_server

FEW = ("A cat sat on the mat.", "Interest rates rose again.", "Grüße aus 漢字 🦊")
MANY = tuple(f"text number {number}" for number in range(2048))


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """Their cosine."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = sum(a * a for a in one) * sum(b * b for b in other)
    return product / lengths**0.5


def nearest(vector: Sequence[float], others: Sequence[Sequence[float]]) -> int:
    return max(range(len(others)), key=lambda at: likeness(vector, others[at]))


@pytest.fixture(params=EMBEDDERS)
async def subject(request, tmp_path) -> AsyncIterator[Embedding]:
    async with request.param(tmp_path) as opened:
        yield opened


class TestEveryEmbedder:
    async def embed(self, subject: Embedding, *texts: str, **wanted) -> Sequence[Sequence[float]]:
        asked = EmbedAsk(subject.model, texts, **wanted)
        return (await subject.embedder.embed(asked)).vectors

    async def test_gives_one_vector_a_text(self, subject):
        assert len(await self.embed(subject, *FEW)) == len(FEW)

    async def test_gives_vectors_of_one_length(self, subject):
        assert len({len(each) for each in await self.embed(subject, *FEW)}) == 1

    async def test_gives_floats_of_32_bits(self, subject):
        (vector,) = await self.embed(subject, FEW[0])
        assert isinstance(vector, array)
        assert vector.typecode == "f"

    async def test_keeps_the_order_of_the_texts(self, subject):
        alone = [(await self.embed(subject, text))[0] for text in FEW]
        together = await self.embed(subject, *FEW)
        assert [nearest(vector, alone) for vector in together] == [0, 1, 2]

    async def test_gives_the_same_text_the_same_vector(self, subject):
        one, other = await self.embed(subject, FEW[0], FEW[0])
        assert likeness(one, other) == pytest.approx(1, abs=1e-4)

    async def test_takes_texts_in_every_script(self, subject):
        texts = ("Straße", "北京", "مرحبا", "🦊🦊", "e\u0301", "a\u200bb", "Ω\ufeff")
        vectors = await self.embed(subject, *texts)
        assert all(likeness(each, each) == pytest.approx(1) for each in vectors)

    async def test_takes_2048_texts(self, subject):
        vectors = await self.embed(subject, *MANY)
        assert len(vectors) == len(MANY)
        some = (0, 700, 2047)
        alone = [(await self.embed(subject, MANY[at]))[0] for at in some]
        assert all(likeness(vectors[at], alone[i]) > 0.98 for i, at in enumerate(some))

    async def test_tells_what_it_used(self, subject):
        one = await subject.embedder.embed(EmbedAsk(subject.model, FEW[:1]))
        all_of_them = await subject.embedder.embed(EmbedAsk(subject.model, FEW))
        assert 0 < one.usage.prompt_tokens < all_of_them.usage.prompt_tokens
        assert one.usage.completion_tokens == 0

    async def test_may_be_told_what_the_texts_are_for(self, subject):
        for purpose in Purpose:
            assert len(await self.embed(subject, *FEW, purpose=purpose)) == len(FEW)

    async def test_keeps_calls_at_the_same_time_apart(self, subject):
        alone = [(await self.embed(subject, text))[0] for text in FEW]
        found = await asyncio.gather(*(self.embed(subject, FEW[at % 3]) for at in range(24)))
        assert [nearest(vector, alone) for (vector,) in found] == [at % 3 for at in range(24)]

    async def test_answers_others_after_a_caller_has_left(self, subject):
        leaving = asyncio.create_task(self.embed(subject, *MANY))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert len(await self.embed(subject, *FEW)) == len(FEW)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with open_http(clock=lambda: 0.0) as http:
        yield http


@pytest.fixture(params=HTTP_EMBEDDERS.values(), ids=HTTP_EMBEDDERS)
def kind(request) -> OverHttp:
    return request.param


def ask(*texts: str, **wanted) -> EmbedAsk:
    return EmbedAsk("m", texts or FEW, **wanted)


class TestVectorsOverHttp:
    async def found(self, kind, http, *replies: Reply, asked: EmbedAsk | None = None):
        async with kind.server(*replies) as server:
            return await kind.adapter(server.endpoint, http).embed(asked or ask())

    async def test_are_what_the_server_gave_to_the_last_bit(self, kind, http):
        found = await self.found(kind, http)
        assert [tuple(each) for each in found.vectors] == [vector_for(text) for text in FEW]

    async def test_of_2048_texts_are_each_the_own_one(self, kind, http):
        found = await self.found(kind, http, asked=ask(*MANY))
        assert [tuple(each) for each in found.vectors] == [vector_for(text) for text in MANY]

    @pytest.mark.parametrize("name", ["openai", "openai_compat", "vllm", "llamacpp"])
    async def test_are_put_in_order_by_their_number(self, http, name):
        found = await self.found(HTTP_EMBEDDERS[name], http, Texts(shuffled=True))
        assert [tuple(each) for each in found.vectors] == [vector_for(text) for text in FEW]

    async def test_come_with_the_server_s_count(self, kind, http):
        found = await self.found(kind, http)
        assert (found.usage.prompt_tokens, found.usage.estimated) == (tokens(FEW), False)

    async def test_of_many_batches_are_counted_together(self, kind, http):
        found = await self.found(kind, http, asked=ask(*MANY))
        assert found.usage.prompt_tokens == tokens(MANY)

    async def test_come_with_an_estimate_that_says_so_where_nobody_counted(self, kind, http):
        found = await self.found(kind, http, Texts(counted=False))
        assert found.usage.prompt_tokens == -(-tokens(FEW) // 4)
        assert found.usage.estimated

    async def test_name_their_model(self, http):
        found = await self.found(HTTP_EMBEDDERS["tei"], http)
        assert found.model == "BAAI/bge-small-en-v1.5"


class TestARequest:
    async def bodies(self, kind, http, asked: EmbedAsk):
        async with kind.server() as server:
            await kind.adapter(server.endpoint, http).embed(asked)
        return [each.body for each in server.requests]

    async def test_has_no_more_texts_than_the_server_takes(self, kind, http):
        bodies = await self.bodies(kind, http, ask(*MANY))
        assert len(bodies) == -(-len(MANY) // kind.per_request)

    @pytest.mark.parametrize("name", [each for each in HTTP_EMBEDDERS if each != "tei"])
    async def test_has_no_more_characters_than_the_server_takes(self, name, http):
        """TEI refuses texts that long."""
        kind = HTTP_EMBEDDERS[name]
        bodies = await self.bodies(kind, http, ask(*["x" * 120_000] * 5))
        assert len(bodies) == 3

    async def test_waits_until_others_of_the_same_call_are_answered(self, kind, http):
        hold = asyncio.Event()
        async with kind.server(Texts(hold=hold)) as server:
            asked = asyncio.create_task(kind.adapter(server.endpoint, http).embed(ask(*MANY)))
            while len(server.requests) < AT_ONCE:
                server.asked.clear()
                await asyncio.wait_for(server.asked.wait(), PATIENCE)
            hold.set()
            await asked
        assert server.connections <= AT_ONCE + 1  # one more where it is asked for its limits

    async def test_gives_as_many_dimensions_as_are_asked_for(self, kind, http):
        async with kind.server() as server:
            found = await kind.adapter(server.endpoint, http).embed(ask(FEW[0], dimensions=5))
        assert [len(each) for each in found.vectors] == [5]

    async def test_has_no_dimensions_where_none_are_asked_for(self, kind, http):
        (body,) = await self.bodies(kind, http, ask())
        assert not {"dimensions", "output_dimension"} & body.keys()

    async def test_has_the_key(self, kind, http):
        async with kind.server() as server:
            await kind.adapter(server.endpoint, http).embed(ask(api_key="abc"))
        assert server.requests[0].headers[kind.key] in ("Bearer abc", "abc")

    @pytest.mark.parametrize("name", sorted(IN_BASE64))
    async def test_wants_base64_where_it_is_known_to_be_understood(self, http, name):
        (body,) = await self.bodies(HTTP_EMBEDDERS[name], http, ask())
        assert body == {"model": "m", "input": list(FEW), "encoding_format": "base64"}

    @pytest.mark.parametrize("name", ["openai_compat", "llamacpp"])
    async def test_wants_what_every_server_has_elsewhere(self, http, name):
        (body,) = await self.bodies(HTTP_EMBEDDERS[name], http, ask())
        assert body == {"model": "m", "input": list(FEW)}

    @pytest.mark.parametrize(
        ("purpose", "said"),
        [(Purpose.DOCUMENT, "search_document"), (Purpose.QUERY, "search_query")],
    )
    async def test_tells_cohere_what_the_texts_are_for(self, http, purpose, said):
        (body,) = await self.bodies(HTTP_EMBEDDERS["cohere"], http, ask(purpose=purpose))
        assert body["input_type"] == said

    async def test_never_puts_anything_before_a_text(self, kind, http):
        document, query = [
            (await self.bodies(kind, http, ask(purpose=purpose)))[0] for purpose in Purpose
        ]
        shown = [
            body.get("input") or body.get("inputs") or body["texts"] for body in (document, query)
        ]
        assert shown == [list(FEW), list(FEW)]

    @pytest.mark.parametrize("given", ["", "/v1", "/v1/", "/v1/embeddings", "/v1/chat/completions"])
    async def test_finds_the_embeddings_whatever_address_is_given(self, http, given):
        async with openai_server() as server:
            await OpenAICompat(f"http://127.0.0.1:{server.port}{given}", http).embed(ask())
        assert server.requests[0].path == "/v1/embeddings"

    @pytest.mark.parametrize("given", ["", "/", "/v2", "/v2/embed"])
    async def test_finds_cohere_s_whatever_address_is_given(self, http, given):
        async with cohere_server() as server:
            await Cohere(server.endpoint + given, http).embed(ask())
        assert server.requests[0].path == "/v2/embed"


class TestATextThatIsTooLong:
    """It is refused, and never cut unless the provider's options say so."""

    LONG = "x" * 600

    async def test_is_sent_with_the_wish_not_to_cut_it(self, http):
        for make, served, said in (
            (Ollama, ollama_server, False),
            (TextEmbeddingsInference, tei_server, False),
            (Cohere, cohere_server, "NONE"),
        ):
            async with served() as server:
                await make(server.endpoint, http).embed(ask())
            assert server.requests[0].body["truncate"] == said

    async def test_is_cut_where_the_options_say_so(self, http):
        for make, served, said in (
            (Ollama, ollama_server, True),
            (TextEmbeddingsInference, tei_server, True),
            (Cohere, cohere_server, "END"),
        ):
            async with served() as server:
                await make(server.endpoint, http, truncate=True).embed(ask(self.LONG))
            assert server.requests[0].body["truncate"] == said

    async def test_is_an_error_of_the_caller(self, http):
        async with tei_server() as server:
            with pytest.raises(InvalidInput, match=r"less than 512 tokens\. Given: 600"):
                await TextEmbeddingsInference(server.endpoint, http).embed(ask(self.LONG))

    async def test_is_an_error_of_the_caller_though_llama_cpp_takes_it_for_its_own(self, http):
        said = "input (614 tokens) is too large to process. increase the physical batch size"
        async with openai_server(refuses(500, said)) as server:
            with pytest.raises(InvalidInput, match="614 tokens"):
                await OpenAICompat(server.endpoint, http).embed(ask(self.LONG))

    async def test_is_looked_for_among_the_texts_of_its_batch(self, http):
        async with tei_server() as server:
            texts = [*["short"] * 65, self.LONG]
            with pytest.raises(InvalidInput, match=r"texts 64 to 65: .* Given: 600"):
                await TextEmbeddingsInference(server.endpoint, http).embed(ask(*texts))


class TestAServerWithLimitsOfItsOwn:
    async def test_is_asked_for_them_once(self, http):
        async with tei_server(most=100) as server:
            tei = TextEmbeddingsInference(server.endpoint, http)
            for _ in range(2):
                await tei.embed(ask(*MANY[:150]))
        assert [len(each.body["inputs"]) for each in server.requests] == [100, 50] * 2

    async def test_is_asked_again_after_it_refused(self, http):
        async with tei_server(most=100) as server:
            tei = TextEmbeddingsInference(server.endpoint, http)
            await tei.embed(ask(*MANY[:100]))
            server.dialect.most = 50  # started anew, with other settings
            with pytest.raises(InvalidInput, match="batch size 100 > maximum"):
                await tei.embed(ask(*MANY[:100]))
            assert len((await tei.embed(ask(*MANY[:100]))).vectors) == 100

    async def test_that_ranks_is_not_asked_to_embed(self, http):
        async with tei_server(kind="reranker") as server:
            with pytest.raises(NotReady, match="no embedding model") as caught:
                await TextEmbeddingsInference(server.endpoint, http).embed(ask())
        assert (caught.value.reason, server.requests) == ("MODEL_CANNOT", [])

    async def test_that_is_no_tei_at_all_is_told_apart(self, http):
        async with tgi_server() as server:
            with pytest.raises(ProviderDown, match="is it a TEI server"):
                await TextEmbeddingsInference(f"http://127.0.0.1:{server.port}", http).embed(ask())


async def test_vectors_as_base64_and_as_numbers_are_the_same(http):
    """Guards the scripted server itself: its two forms must be two forms of one thing."""
    async with openai_server() as server:
        plain = await OpenAICompat(server.endpoint, http).embed(ask())
        packed = await OpenAI(server.endpoint, http).embed(ask())
    assert plain.vectors == packed.vectors
    assert len(plain.vectors[0]) == LENGTH
