"""Semantic memory's values between protobuf and the domain."""

from collections.abc import Iterable, Mapping
from typing import Any

from astromesh.memory.v1 import context_pb2 as pb
from astromesh.memory.v1 import semantic_pb2 as sem
from google.protobuf import struct_pb2

from servers.domain.rag import Scalar, Where
from servers.domain.semantic import (
    Besides,
    Forgetting,
    Memory,
    MemoryPage,
    MemoryQuery,
    MemoryScope,
    Origin,
    Reader,
    Remembered,
    RememberOutcome,
    SourceFailure,
)
from servers.kernel.chat_wire import json_from, json_to, refused, time_from, time_to
from servers.memory.convert import episodes as convert_episodes

_SCOPES = {
    MemoryScope.PRINCIPAL: sem.MEMORY_SCOPE_PRINCIPAL,
    MemoryScope.AGENT: sem.MEMORY_SCOPE_AGENT,
    MemoryScope.SESSION: sem.MEMORY_SCOPE_SESSION,
}
_SCOPE_OF = {number: scope for scope, number in _SCOPES.items()} | {
    sem.MEMORY_SCOPE_UNSPECIFIED: MemoryScope.PRINCIPAL
}
_OUTCOMES = {
    RememberOutcome.CREATED: sem.REMEMBER_OUTCOME_CREATED,
    RememberOutcome.MERGED: sem.REMEMBER_OUTCOME_MERGED,
    RememberOutcome.UNCHANGED: sem.REMEMBER_OUTCOME_UNCHANGED,
}
_OUTCOME_OF = {number: outcome for outcome, number in _OUTCOMES.items()}


# -- requests ------------------------------------------------------------------------------


def remembered_from(wire: sem.RememberRequest) -> Remembered:
    if wire.scope not in _SCOPE_OF:
        raise refused("scope", f"{wire.scope} is unknown")
    return Remembered(
        wire.text,
        _metadata_from(wire.metadata),
        _SCOPE_OF[wire.scope],
        wire.kind,
        wire.run_id,
        wire.duplicate_threshold if wire.HasField("duplicate_threshold") else None,
        time_from(wire.said_time) if wire.HasField("said_time") else None,
        wire.ttl_seconds if wire.HasField("ttl_seconds") else None,
    )


def remembered_to(reader: Reader, said: Remembered, collection: str) -> sem.RememberRequest:
    return sem.RememberRequest(
        agent=reader.agent,
        session=reader.session,
        text=said.text,
        metadata=json_to(said.metadata),
        scope=_SCOPES[said.scope],
        kind=said.kind,
        run_id=said.run_id,
        duplicate_threshold=said.duplicate_threshold,
        said_time=None if said.said_at is None else time_to(said.said_at),
        ttl_seconds=said.ttl,
        collection=collection,
    )


def recall_from(wire: sem.RecallRequest) -> MemoryQuery:
    return MemoryQuery(
        wire.query,
        wire.top_k if wire.HasField("top_k") else None,
        wire.similarity_threshold if wire.HasField("similarity_threshold") else None,
        where_from(wire.filter),
        wire.collection,
    )


def recall_to(reader: Reader, query: MemoryQuery) -> sem.RecallRequest:
    return sem.RecallRequest(
        agent=reader.agent,
        session=reader.session,
        query=query.text,
        top_k=query.top_k,
        similarity_threshold=query.similarity_threshold,
        filter=where_to(query.where),
        collection=query.collection,
    )


def forgetting_from(wire: sem.ForgetRequest) -> Forgetting:
    return Forgetting(wire.id, wire.session, where_from(wire.filter), wire.all)


def forgetting_to(reader: Reader, which: Forgetting, collection: str) -> sem.ForgetRequest:
    return sem.ForgetRequest(
        agent=reader.agent,
        id=which.id,
        session=which.session,
        filter=where_to(which.where),
        all=which.all,
        collection=collection,
    )


def besides_from(request: pb.BuildContextRequest, principal: str, left: float | None) -> Besides:
    """`left`: seconds until the caller gives up. A source that is late must not take the
    rest of the answer along."""
    seconds = request.patience_seconds if request.HasField("patience_seconds") else None
    if seconds is not None and not seconds > 0:  # NaN is not, either
        raise refused("patience_seconds", "expected more than 0 seconds")
    if left is not None:
        seconds = min(_PATIENCE if seconds is None else seconds, max(0.0, left * _OF_WHAT_IS_LEFT))
    semantic = _selection_from(request.semantic) if request.HasField("semantic") else None
    episodic = None
    if request.HasField("episodic"):
        episodic = convert_episodes.selection_from(request.episodic)
    return Besides(request.query, principal, semantic, seconds, episodic)


_PATIENCE, _OF_WHAT_IS_LEFT = 3.0, 0.8


def put_besides(request: pb.BuildContextRequest, besides: Besides) -> None:
    request.query = besides.query
    if besides.patience is not None:
        request.patience_seconds = besides.patience
    if besides.episodic:
        request.episodic.CopyFrom(convert_episodes.selection_to(besides.episodic))
    if query := besides.semantic:
        request.semantic.CopyFrom(
            sem.SemanticSelection(
                top_k=query.top_k,
                similarity_threshold=query.similarity_threshold,
                filter=where_to(query.where),
                collection=query.collection,
            )
        )


def _selection_from(wire: sem.SemanticSelection) -> MemoryQuery:
    return MemoryQuery(
        "",
        wire.top_k if wire.HasField("top_k") else None,
        wire.similarity_threshold if wire.HasField("similarity_threshold") else None,
        where_from(wire.filter),
        wire.collection,
    )


# -- answers -------------------------------------------------------------------------------


def outcome_from(wire: "sem.RememberOutcome.ValueType") -> RememberOutcome:
    return _OUTCOME_OF[wire]


def outcome_to(outcome: RememberOutcome) -> "sem.RememberOutcome.ValueType":
    return _OUTCOMES[outcome]


def page_from(wire: sem.ListMemoriesResponse) -> MemoryPage:
    return MemoryPage(memories_from(wire.memories), wire.next_page_token)


def page_to(page: MemoryPage) -> sem.ListMemoriesResponse:
    memories = [memory_to(each) for each in page.memories]
    return sem.ListMemoriesResponse(memories=memories, next_page_token=page.next_page_token)


def memories_from(wire: Iterable[sem.Memory]) -> tuple[Memory, ...]:
    return tuple(memory_from(each) for each in wire)


def memory_from(wire: sem.Memory) -> Memory:
    return Memory(
        wire.id,
        wire.text,
        wire.agent,
        _SCOPE_OF[wire.scope],
        wire.kind,
        _metadata_from(wire.metadata),
        tuple(_origin_from(each) for each in wire.origins),
        time_from(wire.create_time),
        time_from(wire.update_time),
        wire.collection,
        wire.similarity,
        time_from(wire.expire_time) if wire.HasField("expire_time") else None,
    )


def memory_to(memory: Memory) -> sem.Memory:
    return sem.Memory(
        id=memory.id,
        text=memory.text,
        agent=memory.agent,
        scope=_SCOPES[memory.scope],
        kind=memory.kind,
        metadata=json_to(memory.metadata),
        origins=[_origin_to(each) for each in memory.origins],
        create_time=time_to(memory.created_at),
        update_time=time_to(memory.updated_at),
        collection=memory.collection,
        similarity=memory.similarity,
        expire_time=None if memory.expires_at is None else time_to(memory.expires_at),
    )


def failures_from(wire: Iterable[pb.SourceFailure]) -> tuple[SourceFailure, ...]:
    return tuple(SourceFailure(each.source, each.reason, each.message) for each in wire)


def failures_to(failures: Iterable[SourceFailure]) -> list[pb.SourceFailure]:
    return [
        pb.SourceFailure(source=each.source, reason=each.reason, message=each.message)
        for each in failures
    ]


def _origin_from(wire: sem.Origin) -> Origin:
    return Origin(wire.principal, wire.session, wire.run_id, time_from(wire.time))


def _origin_to(origin: Origin) -> sem.Origin:
    return sem.Origin(
        principal=origin.principal,
        session=origin.session,
        run_id=origin.run_id,
        time=time_to(origin.at),
    )


# -- metadata ------------------------------------------------------------------------------


def where_from(wire: struct_pb2.Struct) -> Where:
    found: Mapping[str, Any] = json_from(wire)
    return {
        key: tuple(_scalar(each, f"filter.{key}") for each in value)
        if isinstance(value, list)
        else _scalar(value, f"filter.{key}")
        for key, value in found.items()
    }


def where_to(where: Where) -> struct_pb2.Struct:
    return json_to(
        {key: list(value) if isinstance(value, tuple) else value for key, value in where.items()}
    )


def _metadata_from(wire: struct_pb2.Struct) -> dict[str, Scalar]:
    return {key: _scalar(value, f"metadata.{key}") for key, value in json_from(wire).items()}


def _scalar(value: Any, place: str) -> Scalar:
    if isinstance(value, str | bool | int | float):
        return value
    raise refused(place, "expected a text, a number, true or false")
