"""The RAG service: pipelines by name, and what is done with them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

import structlog

from servers.domain.caller import Account, Caller
from servers.domain.rag import (
    Chunk,
    Document,
    DocumentPage,
    Ingested,
    IngestOutcome,
    Passage,
    PassageQuery,
    PipelineInfo,
    StoredDocument,
)
from servers.domain.services import Router
from servers.kernel import paging
from servers.kernel.errors import AstromeshError, InvalidInput, NotFound, NotReady
from servers.kernel.explain import nearest
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Record, Scope, VectorStore, is_storable
from servers.kernel.vectors.stores import Stores
from servers.rag.ahead import ahead
from servers.rag.declared import DeclaredPipeline
from servers.rag.ingesting import chunked, ingest
from servers.rag.manifest import RAGPipeline
from servers.rag.ports import Reader
from servers.rag.retrieving import retrieve

_log = structlog.stdlib.get_logger("astromesh.rag")
_AT_ONCE = 3  # documents of a stream: read and embedded while another one is written
_LONGEST_PREVIEW = 2_000_000  # characters


class RagPipelines:
    """Satisfies `domain.services.Rag`."""

    def __init__(
        self,
        declared: Sequence[DeclaredPipeline],
        router: Router,
        stores: Stores,
        read: Reader,
        media_type_of: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._declared = {each.name: each for each in sorted(declared, key=lambda d: d.name)}
        self._router = router
        self._stores = stores
        self._read = read
        self._media_type_of = media_type_of
        self._now = now

    async def ingest(
        self, caller: Caller, pipeline: str, document: Document
    ) -> tuple[StoredDocument, IngestOutcome]:
        said = self._pipeline(pipeline)
        store = await self._store(said)
        record, outcome = await ingest(
            caller,
            said,
            document,
            store,
            self._embedder(said, caller),
            self._read,
            document.media_type or self._media_type_of(document.id),
            self._now(),
        )
        _log.debug("document", pipeline=pipeline, outcome=outcome.value, chunks=record.points)
        return _document(record), outcome

    async def ingest_all(
        self, caller: Caller, pipeline: str, documents: AsyncIterator[Document]
    ) -> AsyncGenerator[Ingested, None]:
        await self._store(self._pipeline(pipeline))

        async def told(document: Document) -> Ingested:
            return await self._told(caller, pipeline, document)

        done = ahead(documents, told, lambda document: document.id, _AT_ONCE)
        async with aclosing(done):
            async for each in done:
                yield each

    async def _told(self, caller: Caller, pipeline: str, document: Document) -> Ingested:
        try:
            stored, outcome = await self.ingest(caller, pipeline, document)
        except AstromeshError as error:
            failed = IngestOutcome.FAILED
            return Ingested(document.id, failed, 0, error.reason, error.message)
        return Ingested(document.id, outcome, stored.chunks)

    async def ready(self, pipeline: str) -> None:
        """Raises what keeps it from taking documents in."""
        await self._store(self._pipeline(pipeline))

    def declared(self, pipeline: str) -> RAGPipeline:
        """Raises NotFound (PIPELINE_NOT_FOUND), NotReady (PIPELINE_NOT_READY)."""
        return self._pipeline(pipeline)

    async def query(self, caller: Caller, query: PassageQuery) -> Sequence[Passage]:
        said = self._pipeline(query.pipeline)
        store = await self._store(said)
        return await retrieve(
            caller, said, query, store, self._embedder(said, caller), self._router
        )

    async def delete(self, caller: Caller, pipeline: str, document: str) -> int:
        store = await self._store(self._pipeline(pipeline))
        seen = Scope(caller.tenant, caller.principal)
        if not is_storable(document) or await store.record(seen, document) is None:
            raise NotFound(f"there is no document {document!r} in {pipeline!r}", document=document)
        return await store.delete(caller.tenant, document)

    async def documents(
        self, caller: Caller, pipeline: str, page_size: int = 0, page_token: str = ""
    ) -> DocumentPage:
        store = await self._store(self._pipeline(pipeline))
        limit = paging.page_limit(page_size)
        scope = ("documents", pipeline, caller.tenant, caller.principal)
        after = paging.position(scope, page_token, str)[0] if page_token else ""
        seen = Scope(caller.tenant, caller.principal)
        found = await store.records(seen, after, limit + 1)
        page = tuple(_document(each) for each in found[:limit])
        more = len(found) > limit
        return DocumentPage(page, paging.token(scope, page[-1].id) if more else "")

    async def pipelines(self, caller: Caller) -> Sequence[PipelineInfo]:
        # At once: each that is away may take its time to say so.
        return await asyncio.gather(*(self._info(caller, each) for each in self._declared.values()))

    async def pipeline(self, caller: Caller, name: str) -> PipelineInfo:
        return await self._info(caller, self._named(name))

    async def chunk(self, caller: Caller, pipeline: str, text: str) -> Sequence[Chunk]:
        said = self._pipeline(pipeline)
        if len(text) > _LONGEST_PREVIEW:
            raise InvalidInput(
                f"a preview cuts {_LONGEST_PREVIEW} characters at most, not {len(text)}",
                reason="DOCUMENT_TOO_LARGE",
            )
        return await chunked(text, said, self._embedder(said, caller))

    # -- parts of them -----------------------------------------------------------------------

    def _named(self, name: str) -> DeclaredPipeline:
        if name not in self._declared:
            raise NotFound(
                f"there is no pipeline {name!r}{nearest(name, list(self._declared))}",
                reason="PIPELINE_NOT_FOUND",
                pipeline=name,
            )
        return self._declared[name]

    def _pipeline(self, name: str) -> RAGPipeline:
        declared = self._named(name)
        if declared.pipeline is None:
            raise NotReady(declared.reason, reason="PIPELINE_NOT_READY", pipeline=name)
        return declared.pipeline

    async def _store(self, said: RAGPipeline) -> VectorStore:
        return await self._stores.at(said.place)

    def _embedder(self, said: RAGPipeline, caller: Caller) -> Embedder:
        account = Account(caller.tenant, caller.principal)
        return Embedder(self._router, said.spec.embeddings.chosen(), account)

    async def _info(self, caller: Caller, declared: DeclaredPipeline) -> PipelineInfo:
        if declared.pipeline is None:
            return PipelineInfo(declared.name, "", "", "", declared.reason)
        said = declared.pipeline
        version, spec = said.metadata.version, said.spec
        plain = (said.name, version, spec.vector_store.backend, spec.chunking.strategy)
        try:
            store = await self._store(said)
            space = await store.space()
            count = await store.count(caller.tenant) if space else 0
        except AstromeshError as error:
            return PipelineInfo(*plain, reason=error.message)
        model, dimension = (space.model, space.dimension) if space else ("", 0)
        return PipelineInfo(*plain, "", model, dimension, count)


def _document(record: Record) -> StoredDocument:
    return StoredDocument(
        record.id,
        record.title,
        record.uri,
        record.content_hash,
        record.points,
        record.metadata,
        record.acl,
        record.updated_at,
    )
