"""Embeddings, rankings and token counts between the wire and the domain."""

import sys
from array import array
from collections.abc import Sequence

import numpy as np
from astromesh.router.v1 import completion_pb2
from astromesh.router.v1 import texts_pb2 as pb

from servers.domain.caller import Caller
from servers.domain.embeddings import (
    CountRequest,
    Embeddings,
    EmbedRequest,
    Purpose,
    Ranked,
    Ranking,
    RerankRequest,
    TokenCount,
    Vector,
)
from servers.kernel import chat_wire
from servers.router.convert.chats import NOBODY, account_from, candidate_from, candidate_to, charge

_PURPOSES = {
    pb.PURPOSE_UNSPECIFIED: Purpose.DOCUMENT,
    pb.PURPOSE_DOCUMENT: Purpose.DOCUMENT,
    pb.PURPOSE_QUERY: Purpose.QUERY,
}
_WIRE_PURPOSES = {
    Purpose.DOCUMENT: pb.PURPOSE_DOCUMENT,
    Purpose.QUERY: pb.PURPOSE_QUERY,
}


def embed_from(wire: pb.EmbedRequest, caller: Caller = NOBODY) -> EmbedRequest:
    return EmbedRequest(
        tuple(wire.texts),
        tuple(candidate_from(each) for each in wire.candidates),
        _PURPOSES.get(wire.purpose, Purpose.DOCUMENT),
        wire.dimensions if wire.HasField("dimensions") else None,
        account_from(wire, caller),
    )


def embed_to(request: EmbedRequest) -> pb.EmbedRequest:
    wire = pb.EmbedRequest(
        texts=request.texts,
        candidates=[candidate_to(each) for each in request.candidates],
        purpose=_WIRE_PURPOSES[request.purpose],
        dimensions=request.dimensions,
    )
    charge(wire, request.account)
    return wire


def embeddings_to(found: Embeddings) -> pb.EmbedResponse:
    return pb.EmbedResponse(
        embeddings=_packed(found.vectors),
        usage=chat_wire.usage_to(found.usage),
        provider=found.provider,
        model=found.model,
    )


def embeddings_from(wire: pb.EmbedResponse) -> Embeddings:
    return Embeddings(
        tuple(_unpacked(each) for each in wire.embeddings),
        chat_wire.usage_from(wire.usage),
        wire.provider,
        wire.model,
    )


def rerank_from(wire: pb.RerankRequest, caller: Caller = NOBODY) -> RerankRequest:
    return RerankRequest(
        wire.query,
        tuple(wire.documents),
        tuple(candidate_from(each) for each in wire.candidates),
        wire.top_n if wire.HasField("top_n") else None,
        account_from(wire, caller),
    )


def rerank_to(request: RerankRequest) -> pb.RerankRequest:
    wire = pb.RerankRequest(
        query=request.query,
        documents=request.documents,
        candidates=[candidate_to(each) for each in request.candidates],
        top_n=request.top_n,
    )
    charge(wire, request.account)
    return wire


def ranking_to(ranking: Ranking) -> pb.RerankResponse:
    return pb.RerankResponse(
        results=[pb.RankedDocument(index=r.index, score=r.score) for r in ranking.ranked],
        usage=chat_wire.usage_to(ranking.usage),
        provider=ranking.provider,
        model=ranking.model,
    )


def ranking_from(wire: pb.RerankResponse) -> Ranking:
    return Ranking(
        tuple(Ranked(each.index, each.score) for each in wire.results),
        chat_wire.usage_from(wire.usage),
        wire.provider,
        wire.model,
    )


def count_from(wire: completion_pb2.CountTokensRequest) -> CountRequest:
    return CountRequest(
        candidate_from(wire.candidate),
        chat_wire.messages_from(wire.messages),
        chat_wire.tool_specs_from(wire.tools),
    )


def count_to(request: CountRequest) -> completion_pb2.CountTokensRequest:
    return completion_pb2.CountTokensRequest(
        candidate=candidate_to(request.candidate),
        messages=chat_wire.messages_to(request.messages),
        tools=chat_wire.tool_specs_to(request.tools),
    )


def token_count_to(count: TokenCount) -> completion_pb2.CountTokensResponse:
    return completion_pb2.CountTokensResponse(
        tokens=count.tokens,
        exact=count.exact,
        counted_by=count.counted_by,
        provider=count.provider,
        model=count.model,
    )


def token_count_from(wire: completion_pb2.CountTokensResponse) -> TokenCount:
    return TokenCount(wire.tokens, wire.exact, wire.counted_by, wire.provider, wire.model)


def _packed(vectors: Sequence[Vector]) -> list[pb.Embedding]:
    """Packed floats are the bytes of the array, after a few bytes that all of one length share.
    Number by number, a large answer would hold up the event loop for a second."""
    heads: dict[int, bytes] = {}
    packed = []
    for vector in vectors:
        size = len(vector)
        if size not in heads:
            heads[size] = pb.Embedding(values=bytes(size)).SerializeToString()[: -4 * size or None]
        packed.append(pb.Embedding.FromString(heads[size] + _little(vector)))
    return packed


def _unpacked(wire: pb.Embedding) -> Vector:
    return array("f", np.array(wire.values, dtype=np.float32).tobytes())


def _little(vector: Vector) -> bytes:
    """The bytes of the numbers in the order of the wire."""
    if sys.byteorder == "little":
        return vector.tobytes()
    turned = array("f", vector)
    turned.byteswap()
    return turned.tobytes()
