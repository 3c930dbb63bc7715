"""An optional package that is missing is named where it is needed, with what brings it."""

import pytest

from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.extras import require
from servers.router.adapters.encoders.owner import open_encoders
from servers.router.adapters.encoders.torch_encoders import SentenceTransformers
from servers.router.ports import EmbedAsk, RerankAsk


def test_a_package_that_is_missing_is_named_with_its_extra():
    with pytest.raises(NotReady, match=r"'no_such_package': pip install '.*\[onnx\]'") as missing:
        require("the model", "onnx", "onnxruntime", "no_such_package")
    assert missing.value.reason == "EXTRA_MISSING"
    assert missing.value.facts == {"extra": "onnx", "module": "no_such_package"}


async def test_sentence_transformers_is_missed_only_when_it_is_asked():
    """It is no part of the environment that `make` sets up."""
    async with open_encoders() as encoders:
        provider = SentenceTransformers("BAAI/bge-small-en-v1.5", encoders)
        assert provider.capabilities("any").context_window is None
        for asked in (
            provider.embed(EmbedAsk("m", ("text",))),
            provider.rerank(RerankAsk("m", "query", ("document",))),
            provider.health(""),
        ):
            with pytest.raises(NotReady, match="'sentence_transformers'") as missing:
                await asked
            assert missing.value.facts["extra"] == "sentence-transformers"
