"""Takes a document in: read, cut, embed, store. All or nothing."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import orjson

from servers.domain.caller import Caller
from servers.domain.rag import Chunk, Document, IngestOutcome
from servers.kernel.errors import Denied, InvalidInput
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Point, Record, Scope, VectorStore, check_value, wrong
from servers.rag import tokens
from servers.rag.chunkers import cut, semantic, sentences
from servers.rag.manifest import RAGPipeline
from servers.rag.ports import Contents, Reader

_LONGEST_NAME = 512
_MOST_KEYS, _LONGEST_TEXT, _MOST_PRINCIPALS = 64, 4096, 256
_MOST_CHUNKS = 20_000  # of one document


async def at_once() -> None:
    """Nobody has to be asked before a document is stored."""


def check_document(document: Document) -> None:
    """Raises InvalidInput that names the field."""
    _check_name("document.id", document.id)
    if len(document.title) > _LONGEST_NAME or len(document.uri) > _LONGEST_TEXT:
        raise wrong("document.title", "title or uri is too long")
    check_value("document.title", document.title)
    check_value("document.uri", document.uri)
    if len(document.metadata) > _MOST_KEYS:
        raise wrong("document.metadata", f"more than {_MOST_KEYS} keys")
    for key, value in document.metadata.items():
        _check_name(f"document.metadata.{key}"[:100], key)
        if not isinstance(value, str | int | float | bool):
            raise wrong(f"document.metadata.{key}", "expected a text, a number, true or false")
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise wrong(f"document.metadata.{key}", f"longer than {_LONGEST_TEXT} characters")
        check_value(f"document.metadata.{key}", value)
    if len(document.acl) > _MOST_PRINCIPALS:
        raise wrong("document.acl", f"more than {_MOST_PRINCIPALS} principals")
    for principal in document.acl:
        _check_name("document.acl", principal)


def _check_name(place: str, name: str) -> None:
    if not name:
        raise wrong(place, "it is empty")
    if len(name) > _LONGEST_NAME:
        raise wrong(place, f"{len(name)} characters are too many: {_LONGEST_NAME} at most")
    if not name.isprintable():
        raise wrong(place, f"{name[:80]!r} has characters that can't be printed")


async def chunked(text: str, pipeline: RAGPipeline, embedder: Embedder) -> Sequence[Chunk]:
    chunking = pipeline.spec.chunking
    cutting = chunking.cutting()
    length = tokens.count if chunking.unit == "tokens" else None
    if cutting.strategy != "semantic":
        return await asyncio.to_thread(cut, text, cutting, length)
    pieces = await asyncio.to_thread(sentences, text)
    if not pieces:
        return []
    _, vectors = await embedder.embed([text[start:end] for start, end in pieces])
    return await asyncio.to_thread(semantic, text, pieces, vectors, cutting, length)


async def ingest(
    caller: Caller,
    pipeline: RAGPipeline,
    document: Document,
    store: VectorStore,
    embedder: Embedder,
    read: Reader,
    media_type: str,
    now: float,
    storing: Callable[[], Awaitable[None]],
) -> tuple[Record, IngestOutcome]:
    """Until `storing` has returned nothing is written. Raises InvalidInput, Denied, and what the
    router and the store raise."""
    check_document(document)
    there = await store.record(Scope(caller.tenant), document.id)
    if there and there.acl and caller.principal not in there.acl:
        raise Denied(f"the document {document.id!r} is another principal's", document=document.id)
    stamp = _stamp(document, pipeline, media_type)
    if there and there.content_hash == stamp:
        return there, IngestOutcome.UNCHANGED
    contents = await _contents(document, read, media_type)
    chunks = await chunked(contents.text, pipeline, embedder)
    if len(chunks) > _MOST_CHUNKS:
        raise InvalidInput(
            f"the document {document.id!r} is too large: {len(chunks)} chunks, and "
            f"{_MOST_CHUNKS} at most are kept; let spec.chunking.chunk_size be larger",
            reason="DOCUMENT_TOO_LARGE",
        )
    record = Record(
        document.id,
        document.title or contents.title or document.id,
        document.uri,
        stamp,
        len(chunks),
        dict(document.metadata),
        document.acl,
        now,
    )
    await _store(caller.tenant, record, chunks, store, embedder, storing)
    return record, IngestOutcome.REPLACED if there else IngestOutcome.CREATED


async def _contents(document: Document, read: Reader, media_type: str) -> Contents:
    try:
        contents = await asyncio.to_thread(read, document.content, media_type)
    except InvalidInput as error:
        says = f"the document {document.id!r} {error.message}"
        raise InvalidInput(says, reason=error.reason, id=document.id) from error
    if contents.text.strip():
        return contents
    scan = ": a scan has to be made text first" if media_type == "application/pdf" else ""
    raise InvalidInput(
        f"the document {document.id!r} holds no text{scan}",
        reason="DOCUMENT_EMPTY",
        id=document.id,
    )


async def _store(
    tenant: str,
    record: Record,
    chunks: Sequence[Chunk],
    store: VectorStore,
    embedder: Embedder,
    storing: Callable[[], Awaitable[None]],
) -> None:
    space, vectors = await embedder.embed([each.text for each in chunks])
    await store.prepare(space)
    points = [
        Point(index, chunk.text, chunk.start, chunk.end, vector)
        for index, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True))
    ]
    await storing()
    await store.replace(tenant, replace(record, points=len(points)), points)


def _stamp(document: Document, pipeline: RAGPipeline, media_type: str) -> str:
    """SHA-256 of all that decides what is stored: content, fields, and how it is cut."""
    said = pipeline.spec
    besides = {
        "media_type": media_type,
        "title": document.title,
        "uri": document.uri,
        "metadata": dict(document.metadata),
        "acl": list(document.acl),
        "chunking": said.chunking.model_dump(),
        "embeddings": [said.embeddings.provider, said.embeddings.model],
    }
    digest = hashlib.sha256(document.content)
    digest.update(orjson.dumps(besides, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
