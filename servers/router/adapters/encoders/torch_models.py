"""Models of the library sentence-transformers, on PyTorch: engines of a worker's thread.

They are loaded from a folder or from Hugging Face's cache on this machine, never downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from servers.domain.embeddings import Purpose
from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.extras import require
from servers.router.adapters.encoders.session import first_line
from servers.router.adapters.encoders.tasks import Piece, Switch
from servers.router.ports import ProviderDown

_HEAD = "ForSequenceClassification"  # how architectures are called that tell classes of texts
_PROMPTS = {
    Purpose.QUERY: ("query",),
    Purpose.DOCUMENT: ("document", "passage", "corpus"),
}


@dataclass(frozen=True, slots=True)
class TorchLoading:
    """What to load and how. Who wants the same shares it."""

    endpoint: str
    max_tokens: int = 0
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Prompted:
    """A text, and what it is embedded for. `prompt` None: what the model has for that."""

    text: str
    purpose: Purpose
    prompt: str | None


class _Torch:
    """What both kinds of models have in common. Satisfies `tasks.Engine`, with `run`."""

    def __init__(self, loading: TorchLoading, model: Any) -> None:
        self.name = loading.endpoint
        self._model = model
        if loading.max_tokens:
            model.max_seq_length = loading.max_tokens

    @property
    def window(self) -> int | None:
        """Tokens that are read at once."""
        window: int | None = self._model.max_seq_length
        return window

    def lengths(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens each has."""
        read = self._model.tokenizer(list(texts), truncation=False, verbose=False)
        return [len(ids) for ids in read["input_ids"]]

    def switch(self) -> Switch:
        """PyTorch can't be stopped in the middle: a run ends soon enough, as batches are small."""
        return SimpleNamespace(terminate=False)

    def failed(self, error: Exception) -> ProviderDown:
        return ProviderDown(
            f"model {self.name!r} failed: {first_line(error)}", reason="PROVIDER_FAILED"
        )


class TorchEmbedder(_Torch):
    def prompt(self, purpose: Purpose) -> str:
        """What the model wants to stand before texts."""
        prompts = self._model.prompts
        return next((prompts[name] for name in _PROMPTS[purpose] if prompts.get(name)), "")

    def run(self, pieces: Sequence[Piece], switch: Switch) -> list[Any]:
        """One vector a piece."""
        found: list[Any] = [None] * len(pieces)
        for purpose, prompt in dict.fromkeys(
            (piece.content.purpose, piece.content.prompt) for piece in pieces
        ):
            mine = [
                place
                for place, piece in enumerate(pieces)
                if (piece.content.purpose, piece.content.prompt) == (purpose, prompt)
            ]
            query = purpose is Purpose.QUERY
            encode = self._model.encode_query if query else self._model.encode_document
            texts = [pieces[place].content.text for place in mine]
            try:
                rows = encode(texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False)
            except Exception as error:  # PyTorch raises nothing more specific
                raise self.failed(error) from error
            for place, row in zip(mine, rows, strict=True):
                found[place] = row
        return found


class TorchRanker(_Torch):
    def run(self, pieces: Sequence[Piece], switch: Switch) -> list[Any]:
        """A score a piece, or one a class."""
        pairs = [piece.content for piece in pieces]
        try:
            return list(self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False))
        except Exception as error:  # PyTorch raises nothing more specific
            raise self.failed(error) from error


def load_embedder(loading: TorchLoading) -> TorchEmbedder:
    """Takes a while: not for the event loop. Raises NotReady that says what is wrong."""
    _require(loading)
    from sentence_transformers import SentenceTransformer

    if _architecture(loading).endswith(_HEAD):
        raise NotReady(
            f"{loading.endpoint!r} is a cross-encoder: it ranks, but gives no vectors",
            reason="MODEL_CANNOT",
        )
    return TorchEmbedder(loading, _loaded(SentenceTransformer, loading))


def load_ranker(loading: TorchLoading) -> TorchRanker:
    """As `load_embedder`."""
    _require(loading)
    from sentence_transformers import CrossEncoder

    if _architecture(loading).endswith("Model"):  # its scores would be those of random weights
        raise NotReady(
            f"{loading.endpoint!r} is no cross-encoder: it has no weights for scores",
            reason="MODEL_CANNOT",
        )
    return TorchRanker(loading, _loaded(CrossEncoder, loading))


def _require(loading: TorchLoading) -> None:
    require(
        f"the model {loading.endpoint!r}",
        "sentence-transformers",
        "sentence_transformers",
        "torch",
    )


def _architecture(loading: TorchLoading) -> str:
    """The class that the weights are of, as config.json names it."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(loading.endpoint, local_files_only=True)
    except Exception as error:  # whatever the hub's client raises
        raise _missing(loading, error) from error
    names: list[str] = config.architectures or [""]
    return names[0]


def _loaded(kind: Any, loading: TorchLoading) -> Any:
    import torch
    from transformers.utils import logging

    if loading.device == "cuda" and not torch.cuda.is_available():
        raise NotReady("device 'cuda': PyTorch finds no GPU", reason="MODEL_BROKEN")
    if loading.threads:
        torch.set_num_threads(loading.threads)
    logging.disable_progress_bar()
    device = None if loading.device == "auto" else loading.device
    try:
        return kind(loading.endpoint, device=device, local_files_only=True)
    except Exception as error:  # whatever the library and its dependencies raise
        raise _missing(loading, error) from error


def _missing(loading: TorchLoading, error: Exception) -> NotReady:
    if Path(loading.endpoint).is_dir():
        return NotReady(
            f"the model in {loading.endpoint!r} can't be loaded: {first_line(error)}",
            reason="MODEL_BROKEN",
        )
    return NotReady(
        f"{loading.endpoint!r} is neither a folder of the router's machine nor a model in its "
        "cache of Hugging Face: download it first",
        reason="MODEL_MISSING",
    )
