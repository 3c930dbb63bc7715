"""The RAG service: pipelines by name, and what is done with them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace

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
from servers.kernel.vectors.stores import StorePlace, Stores
from servers.rag.ahead import ahead
from servers.rag.catalogue import NO_USERS, Users, changed, taken_over
from servers.rag.declared import DeclaredPipeline
from servers.rag.ingesting import at_once, chunked, ingest
from servers.rag.manifest import RAGPipeline
from servers.rag.ports import Reader
from servers.rag.retrieving import retrieve
from servers.rag.vectors import check_vectors, same_vectors

_log = structlog.stdlib.get_logger("astromesh.rag")
_AT_ONCE = 3  # documents of a stream: read and embedded while another one is written
_LONGEST_PREVIEW = 2_000_000  # characters
_LONGEST_CHECK = 5.0  # seconds until a changed pipeline is taken over unasked
_NOBODY = Caller()  # on whose account a model is asked whether it fits


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
        self._declared = taken_over({}, declared, {})
        self._router = router
        self._stores = stores
        self._read = read
        self._media_type_of = media_type_of
        self._now = now

    # -- files -----------------------------------------------------------------------------

    @property
    def declarations(self) -> Sequence[DeclaredPipeline]:
        return tuple(self._declared.values())

    async def take_files(
        self, declared: Sequence[DeclaredPipeline], users: Users = NO_USERS
    ) -> frozenset[str]:
        """Make these the pipelines of the files; `users` are the agents that name them. What has
        begun ends with the pipeline that it began with, whose store is closed when nobody uses
        it any more. Returns the names of those that are new, or not what they were."""
        old = self._declared
        self._stores.keep(_places(old.values()) | _places(declared))
        checked = await asyncio.gather(*map(self._fitting, declared))
        self._declared = taken_over(old, checked, users)
        self._stores.keep(_places(self._declared.values()))
        return changed(old, self._declared)

    async def _fitting(self, declared: DeclaredPipeline) -> DeclaredPipeline:
        """A fault instead of a pipeline that would take the place of one that works, and whose
        store refuses its vectors."""
        running = self._declared.get(declared.name)
        new, old = declared.pipeline, running.pipeline if running else None
        if new is None or old is None or same_vectors(new, old):
            return declared
        try:
            async with asyncio.timeout(_LONGEST_CHECK), self._store(new) as store:
                await check_vectors(new, store, self._embedder(new, _NOBODY))
        except NotReady as error:
            if error.reason == "EMBEDDING_MISMATCH":
                reason = f"{declared.origin}: {error.message}"
                return replace(declared, pipeline=None, reason=reason)
        except (AstromeshError, TimeoutError):
            pass  # what can't be asked just now is told when the pipeline is used
        except Exception as error:  # a bug must not hold up the other files
            _log.exception("asking a store broke", pipeline=new.name, error=repr(error))
        return declared

    # -- what a caller can do --------------------------------------------------------------

    async def ingest(
        self,
        caller: Caller,
        pipeline: str,
        document: Document,
        storing: Callable[[], Awaitable[None]] = at_once,
    ) -> tuple[StoredDocument, IngestOutcome]:
        """`storing` is awaited before anything of the document is written."""
        return await self._ingest(caller, self._pipeline(pipeline), document, storing)

    async def _ingest(
        self,
        caller: Caller,
        said: RAGPipeline,
        document: Document,
        storing: Callable[[], Awaitable[None]] = at_once,
    ) -> tuple[StoredDocument, IngestOutcome]:
        async with self._store(said) as store:
            record, outcome = await ingest(
                caller,
                said,
                document,
                store,
                self._embedder(said, caller),
                self._read,
                document.media_type or self._media_type_of(document.id),
                self._now(),
                storing,
            )
        _log.debug("document", pipeline=said.name, outcome=outcome.value, chunks=record.points)
        return _document(record), outcome

    async def ingest_all(
        self, caller: Caller, pipeline: str, documents: AsyncIterator[Document]
    ) -> AsyncGenerator[Ingested, None]:
        said = self._pipeline(pipeline)  # for all of them, whatever becomes of its file

        async def told(document: Document) -> Ingested:
            return await self._told(caller, said, document)

        done = ahead(documents, told, lambda document: document.id, _AT_ONCE)
        async with self._store(said), aclosing(done):
            async for each in done:
                yield each

    async def _told(self, caller: Caller, said: RAGPipeline, document: Document) -> Ingested:
        try:
            stored, outcome = await self._ingest(caller, said, document)
        except AstromeshError as error:
            failed = IngestOutcome.FAILED
            return Ingested(document.id, failed, 0, error.reason, error.message)
        return Ingested(document.id, outcome, stored.chunks)

    async def ready(self, pipeline: str) -> None:
        """Raises what keeps it from taking documents in."""
        async with self._store(self._pipeline(pipeline)):
            pass

    def declared(self, pipeline: str) -> RAGPipeline:
        """Raises NotFound (PIPELINE_NOT_FOUND), NotReady (PIPELINE_NOT_READY)."""
        return self._pipeline(pipeline)

    async def query(self, caller: Caller, query: PassageQuery) -> Sequence[Passage]:
        said = self._pipeline(query.pipeline)
        embedder = self._embedder(said, caller)
        async with self._store(said) as store:
            return await retrieve(caller, said, query, store, embedder, self._router)

    async def delete(self, caller: Caller, pipeline: str, document: str) -> int:
        seen = Scope(caller.tenant, caller.principal)
        async with self._store(self._pipeline(pipeline)) as store:
            if is_storable(document) and await store.record(seen, document):
                return await store.delete(caller.tenant, document)
            await store.delete(caller.tenant)  # it may be that an earlier try failed half way
        raise NotFound(f"there is no document {document!r} in {pipeline!r}", document=document)

    async def documents(
        self, caller: Caller, pipeline: str, page_size: int = 0, page_token: str = ""
    ) -> DocumentPage:
        said, limit = self._pipeline(pipeline), paging.page_limit(page_size)
        scope = ("documents", pipeline, caller.tenant, caller.principal)
        after = paging.position(scope, page_token, str)[0] if page_token else ""
        seen = Scope(caller.tenant, caller.principal)
        async with self._store(said) as store:
            found = await store.records(seen, after, limit + 1)
        some, more = paging.fitting(found, limit)
        page = tuple(map(_document, some))
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

    def _store(self, said: RAGPipeline) -> AbstractAsyncContextManager[VectorStore]:
        return self._stores.using(said.place)

    def _embedder(self, said: RAGPipeline, caller: Caller) -> Embedder:
        account = Account(caller.tenant, caller.principal)
        return Embedder(self._router, said.spec.embeddings.chosen(), account)

    async def _info(self, caller: Caller, declared: DeclaredPipeline) -> PipelineInfo:
        if declared.pipeline is None:
            return PipelineInfo(declared.name, "", "", "", declared.reason, ready=False)
        said = declared.pipeline
        version, spec = said.metadata.version, said.spec
        plain = (said.name, version, spec.vector_store.backend, spec.chunking.strategy)
        try:
            async with self._store(said) as store:
                space = await store.space()
                count = await store.count(caller.tenant) if space else 0
        except AstromeshError as error:
            # A file that was not taken over may be what would help.
            reason = "; ".join(filter(None, (error.message, declared.reason)))
            return PipelineInfo(*plain, reason=reason, ready=False)
        model, dimension = (space.model, space.dimension) if space else ("", 0)
        return PipelineInfo(*plain, declared.reason, model, dimension, count)


def _places(declared: Iterable[DeclaredPipeline]) -> frozenset[StorePlace]:
    return frozenset(each.pipeline.place for each in declared if each.pipeline)


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
