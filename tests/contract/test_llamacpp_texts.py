"""What only a real llama.cpp can show of embeddings and rankings."""

import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import open_http
from servers.router.adapters.openai.compat import OpenAI, OpenAICompat
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.ports import EmbedAsk, RerankAsk
from tests.contract.llama_fixture import llama
from tests.contract.tiny_bert import WIDTH

pytestmark = pytest.mark.local_model

FEW = ("A cat sat on the mat.", "Interest rates rose again.")
LONG = "word " * 600


@pytest.fixture
async def embeds(tmp_path):
    async with llama(tmp_path, "MEAN") as address, open_http() as http:
        yield address, http


@pytest.fixture
async def ranks(tmp_path):
    async with llama(tmp_path, "RANK") as address, open_http() as http:
        yield address, http


async def test_it_gives_the_same_numbers_as_text_and_as_base64(embeds):
    address, http = embeds
    plain = await OpenAICompat(address, http).embed(EmbedAsk("m", FEW))
    packed = await OpenAI(address, http).embed(EmbedAsk("m", FEW))
    assert len(plain.vectors[0]) == WIDTH
    assert [list(each) for each in plain.vectors] == [
        pytest.approx(each, rel=1e-6) for each in packed.vectors
    ]


async def test_it_does_not_heed_a_wish_for_dimensions(embeds):
    """So that the router has to look."""
    found = await LlamaCpp(*embeds).embed(EmbedAsk("m", FEW, dimensions=8))
    assert len(found.vectors[0]) == WIDTH


async def test_it_counts_its_tokens(embeds):
    usage = (await LlamaCpp(*embeds).embed(EmbedAsk("m", FEW))).usage
    letters = sum(len(text.replace(" ", "")) for text in FEW)
    assert (usage.prompt_tokens, usage.estimated) == (letters + 2 * len(FEW), False)


async def test_a_text_that_is_too_long_for_it_is_the_caller_s_error(embeds):
    with pytest.raises(InvalidInput, match="too large to process"):
        await LlamaCpp(*embeds).embed(EmbedAsk("m", (LONG,)))


async def test_a_document_that_is_too_long_for_it_is_the_caller_s_error(ranks):
    with pytest.raises(InvalidInput, match="too large to process"):
        await LlamaCpp(*ranks).rerank(RerankAsk("m", "cat", (LONG,)))


async def test_it_does_not_rank_where_it_was_started_to_embed(embeds):
    with pytest.raises(NotReady, match="does not support reranking") as caught:
        await LlamaCpp(*embeds).rerank(RerankAsk("m", "cat", FEW))
    assert caught.value.reason == "MODEL_CANNOT"


async def test_it_is_well(embeds):
    await LlamaCpp(*embeds).health("")
