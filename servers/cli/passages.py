"""Asks the mesh for vectors and rankings, and shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from astromesh.router.v1 import candidate_pb2
from astromesh.router.v1 import texts_pb2 as pb
from astromesh.router.v1.router_service_pb2_grpc import RouterServiceStub

from servers.cli.choices import Output
from servers.cli.client import connected
from servers.cli.output import Columns, show_all, show_one
from servers.kernel.errors import InvalidInput

_SHOWN = 6  # numbers of a vector
_VECTOR: Columns = {
    "NUMBERS": lambda embedding: len(embedding.values),
    "VECTOR": lambda embedding: " ".join(f"{n:.4f}" for n in embedding.values[:_SHOWN]) + " ...",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask, where, and how to show what comes."""

    address: str
    provider: str
    model: str
    form: Output

    @property
    def candidates(self) -> list[candidate_pb2.ModelCandidate]:
        if self.provider:
            return [candidate_pb2.ModelCandidate(provider=self.provider, model=self.model)]
        if self.model:
            raise InvalidInput("--model names a model of a provider: name that too, by --provider")
        return []


async def embed(asked: Asked, texts: Sequence[str], query: bool, dimensions: int | None) -> None:
    request = pb.EmbedRequest(
        texts=texts,
        candidates=asked.candidates,
        purpose=pb.PURPOSE_QUERY if query else pb.PURPOSE_DOCUMENT,
        dimensions=dimensions,
    )
    async with connected(asked.address) as channel:
        answer = await RouterServiceStub(channel).Embed(request)
    if asked.form is Output.TABLE:
        show_all(answer.embeddings, _VECTOR, asked.form)
    else:
        show_one(answer, {}, asked.form)


async def rerank(asked: Asked, query: str, documents: Sequence[str], top_n: int | None) -> None:
    request = pb.RerankRequest(
        query=query, documents=documents, candidates=asked.candidates, top_n=top_n
    )
    async with connected(asked.address) as channel:
        answer = await RouterServiceStub(channel).Rerank(request)
    if asked.form is Output.TABLE:
        columns: Columns = {
            "SCORE": lambda found: f"{found.score:.4f}",
            "DOCUMENT": lambda found: documents[found.index],
        }
        show_all(answer.results, columns, asked.form)
    else:
        show_one(answer, {}, asked.form)
