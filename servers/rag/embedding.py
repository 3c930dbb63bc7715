"""Vectors of texts, from the router, in batches."""

from collections.abc import Sequence

from servers.domain.caller import Account, Caller
from servers.domain.embeddings import EmbedRequest, Purpose, Vector
from servers.domain.services import Router
from servers.kernel.errors import NotReady
from servers.kernel.vectors.ports import Space
from servers.rag.manifest import Embedding


class Embedder:
    """What a pipeline's manifest says of embeddings, at work for one caller."""

    def __init__(self, router: Router, said: Embedding, caller: Caller) -> None:
        self._router = router
        self._said = said
        self._account = Account(caller.tenant, caller.principal)

    async def embed(
        self, texts: Sequence[str], purpose: Purpose = Purpose.DOCUMENT
    ) -> tuple[Space, list[Vector]]:
        """The vectors and what they are of. `texts` are not empty, and none of them is."""
        vectors: list[Vector] = []
        spaces: set[Space] = set()
        size = self._said.batch_size
        for batch in (texts[at : at + size] for at in range(0, len(texts), size)):
            request = EmbedRequest(
                tuple(batch),
                self._said.candidates(),
                purpose,
                self._said.dimension,
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
