"""Ingestions as callers see them: begun, looked up, listed, waited for, cancelled, forgotten."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace

import orjson

from servers.domain.caller import Caller
from servers.domain.ingestions import Ingestion, IngestionFilter, IngestionPage
from servers.domain.rag import Document
from servers.kernel import paging
from servers.kernel.errors import NotFound, NotReady
from servers.kernel.vectors.ports import wrong
from servers.rag.ports import Spool
from servers.rag.working import Worker

LONGEST_WAIT = 600.0  # seconds
_SIGN_OF_LIFE = 15.0  # seconds after which watchers are told again what they know
_LONGEST_REQUEST_ID = 128
_MOST_FAILURES = 1000  # documents that failed, of those that are named


class SpooledIngestions:
    """Satisfies `domain.services.Ingestions`. `declared` raises where there is no pipeline of
    a name, or where it can't be read."""

    def __init__(
        self,
        spool: Spool,
        worker: Worker,
        declared: Callable[[str], object],
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._spool, self._worker, self._declared = spool, worker, declared
        self._now, self._new_id = now, new_id

    async def start(
        self,
        caller: Caller,
        pipeline: str,
        documents: AsyncIterator[Document],
        request_id: str = "",
    ) -> Ingestion:
        if len(request_id) > _LONGEST_REQUEST_ID or not request_id.isprintable():
            raise wrong("request_id", f"up to {_LONGEST_REQUEST_ID} printable characters")
        self._declared(pipeline)
        new, now = self._new_id(), self._now()
        # Where it was asked for already, the contents are compared and not kept twice.
        known = await self._asked(caller, request_id)
        await self._spool.begin(Ingestion(new, caller.tenant, caller.principal, pipeline, now, now))
        try:
            digest = await self._receive("" if known else new, pipeline, documents)
            accepted = await self._spool.accept(new, request_id, digest)
        except BaseException:  # whoever sent them does not hear that they are safe
            await asyncio.shield(self._spool.forget(new))
            raise
        if accepted.id == new:
            self._worker.begin(accepted)
        return await self._whole(caller, self._worker.seen(accepted, caller.principal))

    async def _asked(self, caller: Caller, request_id: str) -> bool:
        if not request_id:
            return False
        return await self._spool.asked(caller.tenant, caller.principal, request_id)

    async def _receive(self, into: str, pipeline: str, documents: AsyncIterator[Document]) -> str:
        """Put the documents away, and give what tells them from all others."""
        digest, number = hashlib.sha256(pipeline.encode()), 0
        async for document in documents:
            if not document.id:
                raise wrong(f"documents[{number}].id", "it is empty")
            if into:
                await self._spool.add(into, number, document)
            digest.update(await asyncio.to_thread(_mark, document))
            number += 1
        if not number:
            raise wrong("documents", "there is none: name one at least")
        return digest.hexdigest()

    async def get(self, caller: Caller, name: str) -> Ingestion:
        return await self._whole(caller, await self._found(caller, name))

    async def _whole(self, caller: Caller, ingestion: Ingestion) -> Ingestion:
        """With the documents that failed, as far as the caller may know of them."""
        if not ingestion.failed:
            return ingestion
        failures = await self._spool.failures(ingestion.id, _MOST_FAILURES)
        named = [each for each in failures if ingestion.names(each.acl, caller.principal)]
        return replace(ingestion, failures=tuple(named))

    async def _found(self, caller: Caller, name: str) -> Ingestion:
        found = await self._spool.get(name.removeprefix("operations/"))
        if found is None or found.tenant != caller.tenant:
            raise NotFound(
                f"there is no operation {name!r}; those that ended are forgotten after some days",
                reason="OPERATION_NOT_FOUND",
                operation=name,
            )
        return self._worker.seen(found, caller.principal)

    async def list(
        self, caller: Caller, where: IngestionFilter, page_size: int = 0, page_token: str = ""
    ) -> IngestionPage:
        limit = paging.page_limit(page_size)
        scope = ("operations", caller.tenant, where.done, where.pipeline)
        after = None
        if page_token:
            created, last = paging.position(scope, page_token, float, str)
            after = (created, last)
        found = await self._spool.page(caller.tenant, where, after, limit + 1)
        page = tuple(self._worker.seen(each, caller.principal) for each in found[:limit])
        if len(found) <= limit:
            return IngestionPage(page)
        return IngestionPage(page, paging.token(scope, page[-1].created_at, page[-1].id))

    async def cancel(self, caller: Caller, name: str) -> None:
        found = await self._found(caller, name)
        if not found.over:
            await self._spool.cancel(found.id)
            self._worker.cancel(found)

    async def delete(self, caller: Caller, name: str) -> None:
        found = await self._found(caller, name)
        if not found.over:
            raise NotReady(
                f"{name!r} goes on: cancel it, or wait for its end",
                reason="OPERATION_RUNNING",
                operation=name,
            )
        await self._spool.forget(found.id)

    async def wait(self, caller: Caller, name: str, seconds: float) -> Ingestion:
        found = await self._found(caller, name)
        until = asyncio.get_running_loop().time() + min(max(seconds, 0.0), LONGEST_WAIT)
        with self._worker.changes(found.id) as changed:
            while not found.over:
                changed.clear()
                found = await self._found(caller, name)
                try:
                    async with asyncio.timeout_at(until):
                        await (asyncio.sleep(0) if found.over else changed.wait())
                except TimeoutError:
                    return await self.get(caller, name)
        return await self._whole(caller, found)

    async def watch(self, caller: Caller, name: str) -> AsyncGenerator[Ingestion, None]:
        found = await self._found(caller, name)
        with self._worker.changes(found.id) as changed:
            while True:
                changed.clear()
                found = await self._found(caller, name)
                if found.over:
                    yield await self._whole(caller, found)
                    return
                yield found
                try:
                    async with asyncio.timeout(_SIGN_OF_LIFE):
                        await changed.wait()
                except TimeoutError:
                    continue


def _mark(document: Document) -> bytes:
    fields = [
        document.id,
        document.media_type,
        document.title,
        document.uri,
        dict(document.metadata),
        list(document.acl),
        hashlib.sha256(document.content).hexdigest(),
    ]
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).digest()
