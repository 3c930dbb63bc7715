"""Vectors of texts, from the router, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass

from servers.domain.caller import Account
from servers.domain.chat import ModelRef
from servers.domain.embeddings import EmbedRequest, Purpose, Vector
from servers.domain.services import Router
from servers.kernel.errors import NotReady
from servers.kernel.vectors.ports import Space


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What a manifest says of it. No candidates: the model that is in the mesh."""

    candidates: tuple[ModelRef, ...] = ()
    dimension: int | None = None
    batch_size: int = 64


class Embedder:
    """A model at work on somebody's account."""

    def __init__(self, router: Router, model: EmbeddingModel, account: Account) -> None:
        self._router = router
        self._model = model
        self._account = account

    async def embed(
        self, texts: Sequence[str], purpose: Purpose = Purpose.DOCUMENT
    ) -> tuple[Space, list[Vector]]:
        """The vectors and what they are of. `texts` are not empty, and none of them is."""
        vectors: list[Vector] = []
        spaces: set[Space] = set()
        size = self._model.batch_size
        for batch in (texts[at : at + size] for at in range(0, len(texts), size)):
            request = EmbedRequest(
                tuple(batch),
                self._model.candidates,
                purpose,
                self._model.dimension,
                self._account,
            )
            answer = await self._router.embed(request)
            spaces |= {Space(answer.model, len(each)) for each in answer.vectors}
            vectors += answer.vectors
        if len(spaces) != 1:
            raise NotReady(
                "the provider answered with vectors of several models or lengths; none is kept",
                reason="EMBEDDING_MISMATCH",
                got=", ".join(f"{each.model}/{each.dimension}" for each in spaces),
            )
        return spaces.pop(), vectors
