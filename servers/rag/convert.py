"""RAG's values between protobuf and the domain."""

from collections.abc import Mapping
from typing import Any

from astromesh.rag.v1 import document_pb2 as docs
from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1 import retrieval_pb2 as retrieval
from google.protobuf import struct_pb2

from servers.domain.rag import (
    Chunk,
    Document,
    DocumentPage,
    Ingested,
    IngestOutcome,
    Mmr,
    Passage,
    PassageQuery,
    PipelineInfo,
    Scalar,
    StoredDocument,
    Where,
)
from servers.kernel.chat_wire import json_from, json_to, refused, time_from, time_to

_OUTCOMES = {
    IngestOutcome.CREATED: docs.INGEST_OUTCOME_CREATED,
    IngestOutcome.REPLACED: docs.INGEST_OUTCOME_REPLACED,
    IngestOutcome.UNCHANGED: docs.INGEST_OUTCOME_UNCHANGED,
    IngestOutcome.FAILED: docs.INGEST_OUTCOME_FAILED,
}
_OR_LIST = ", or a list of those"
_BY_NUMBER = {number: outcome for outcome, number in _OUTCOMES.items()}


def document_from(wire: docs.Document) -> Document:
    if wire.text and wire.content:
        raise refused("document.text", "say text or content, not both")
    return Document(
        wire.id,
        wire.text.encode() if wire.text else wire.content,
        wire.media_type,
        wire.title,
        wire.uri,
        _metadata_from(wire.metadata, "document.metadata"),
        tuple(wire.acl),
    )


def document_to(document: Document) -> docs.Document:
    return docs.Document(
        id=document.id,
        content=document.content,
        media_type=document.media_type,
        title=document.title,
        uri=document.uri,
        metadata=json_to(document.metadata),
        acl=document.acl,
    )


def stored_from(wire: docs.StoredDocument) -> StoredDocument:
    return StoredDocument(
        wire.id,
        wire.title,
        wire.uri,
        wire.content_hash,
        wire.chunks,
        _metadata_from(wire.metadata, "metadata"),
        tuple(wire.acl),
        time_from(wire.update_time),
    )


def stored_to(document: StoredDocument) -> docs.StoredDocument:
    return docs.StoredDocument(
        id=document.id,
        title=document.title,
        uri=document.uri,
        content_hash=document.content_hash,
        chunks=document.chunks,
        metadata=json_to(document.metadata),
        acl=document.acl,
        update_time=time_to(document.updated_at),
    )


def outcome_from(wire: "docs.IngestOutcome.ValueType") -> IngestOutcome:
    return _BY_NUMBER[wire]


def outcome_to(outcome: IngestOutcome) -> "docs.IngestOutcome.ValueType":
    return _OUTCOMES[outcome]


def ingested_from(wire: pb.IngestDocumentsResponse) -> Ingested:
    outcome = outcome_from(wire.outcome)
    return Ingested(wire.id, outcome, wire.chunks, wire.error_reason, wire.error_message)


def ingested_to(ingested: Ingested) -> pb.IngestDocumentsResponse:
    return pb.IngestDocumentsResponse(
        id=ingested.id,
        outcome=_OUTCOMES[ingested.outcome],
        chunks=ingested.chunks,
        error_reason=ingested.error_reason,
        error_message=ingested.error_message,
    )


def page_from(wire: pb.ListDocumentsResponse) -> DocumentPage:
    return DocumentPage(tuple(map(stored_from, wire.documents)), wire.next_page_token)


def page_to(page: DocumentPage) -> pb.ListDocumentsResponse:
    return pb.ListDocumentsResponse(
        documents=map(stored_to, page.documents), next_page_token=page.next_page_token
    )


def query_from(wire: pb.QueryRequest) -> PassageQuery:
    return PassageQuery(
        wire.pipeline,
        wire.query,
        wire.top_k if wire.HasField("top_k") else None,
        wire.similarity_threshold if wire.HasField("similarity_threshold") else None,
        _where_from(wire.filter),
        _mmr_from(wire.mmr) if wire.HasField("mmr") else None,
    )


def query_to(query: PassageQuery) -> pb.QueryRequest:
    where = {key: list(v) if isinstance(v, tuple) else v for key, v in query.where.items()}
    return pb.QueryRequest(
        pipeline=query.pipeline,
        query=query.text,
        top_k=query.top_k,
        similarity_threshold=query.similarity_threshold,
        filter=json_to(where),
        mmr=_mmr_to(query.mmr) if query.mmr else None,
    )


def _mmr_from(wire: retrieval.MaximalMarginalRelevance) -> Mmr:
    return Mmr(
        wire.lambda_mult if wire.HasField("lambda_mult") else Mmr().lambda_mult,
        wire.fetch_k if wire.HasField("fetch_k") else None,
    )


def _mmr_to(mmr: Mmr) -> retrieval.MaximalMarginalRelevance:
    return retrieval.MaximalMarginalRelevance(lambda_mult=mmr.lambda_mult, fetch_k=mmr.fetch_k)


def passage_from(wire: pb.Passage) -> Passage:
    return Passage(
        wire.document,
        wire.title,
        wire.uri,
        wire.text,
        wire.start,
        wire.end,
        wire.index,
        wire.similarity,
        wire.score,
        _metadata_from(wire.metadata, "metadata"),
    )


def passage_to(passage: Passage) -> pb.Passage:
    return pb.Passage(
        document=passage.document,
        title=passage.title,
        uri=passage.uri,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        index=passage.index,
        similarity=passage.similarity,
        score=passage.score,
        metadata=json_to(passage.metadata),
        citation=passage.citation,
    )


def pipeline_from(wire: pb.Pipeline) -> PipelineInfo:
    return PipelineInfo(
        wire.name,
        wire.version,
        wire.backend,
        wire.chunking,
        wire.reason,
        wire.embedding_model,
        wire.dimension,
        wire.chunks,
        wire.ready,
    )


def pipeline_to(info: PipelineInfo) -> pb.Pipeline:
    return pb.Pipeline(
        name=info.name,
        version=info.version,
        backend=info.backend,
        chunking=info.chunking,
        ready=info.ready,
        reason=info.reason,
        embedding_model=info.embedding_model,
        dimension=info.dimension,
        chunks=info.chunks,
    )


def chunk_from(wire: pb.Chunk) -> Chunk:
    return Chunk(wire.text, wire.start, wire.end)


def chunk_to(chunk: Chunk) -> pb.Chunk:
    return pb.Chunk(text=chunk.text, start=chunk.start, end=chunk.end)


def _metadata_from(wire: struct_pb2.Struct, place: str) -> dict[str, Scalar]:
    return {key: _scalar(value, f"{place}.{key}") for key, value in json_from(wire).items()}


def _where_from(wire: struct_pb2.Struct) -> Where:
    found: Mapping[str, Any] = json_from(wire)
    return {
        key: tuple(_scalar(each, f"filter.{key}", _OR_LIST) for each in value)
        if isinstance(value, list)
        else _scalar(value, f"filter.{key}", _OR_LIST)
        for key, value in found.items()
    }


def _scalar(value: Any, place: str, or_else: str = "") -> Scalar:
    if isinstance(value, str | bool | int | float):
        return value
    raise refused(place, f"expected a text, a number, true or false{or_else}")
