"""Puts the RAG service together: pipelines, and ingestions that outlive the process."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from servers.assembly.files import TakePipelines
from servers.config import MeshConfig
from servers.domain.services import Router
from servers.kernel.background import for_ever
from servers.kernel.errors import AstromeshError
from servers.kernel.ids import new_id
from servers.kernel.sqlite import open_database
from servers.kernel.vectors.stores import Stores, store_at
from servers.rag.adapters import readers, spool_rows
from servers.rag.adapters.spool import SqliteSpool
from servers.rag.catalogue import Users
from servers.rag.declared import DeclaredPipeline
from servers.rag.ingestions import SpooledIngestions
from servers.rag.ports import Spool
from servers.rag.service import RagPipelines
from servers.rag.working import Work, Worker

_SWEEP = 3600.0  # seconds between two looks for operations that ended long ago
_DAY = 86_400.0
_log = structlog.stdlib.get_logger("astromesh.rag")


async def open_rag(
    config: MeshConfig, stack: AsyncExitStack, router: Router
) -> tuple[RagPipelines, SpooledIngestions, TakePipelines]:
    """And what is to be told of changes in the folder of pipelines. Stores are opened when they
    are first wanted: one that is away stops nothing else."""
    enter = stack.enter_async_context
    stores = await enter(Stores(store_at(config.state_dir / "rag")))
    pipelines = RagPipelines(
        config.pipelines, router, stores, readers.read, readers.media_type_of, time.time
    )
    said = config.runtime.ingestion
    database = await enter(open_database(config.state_dir / "ingestions.db", spool_rows.MIGRATIONS))
    most_of_tenant = said.tenant_bytes or said.spool_bytes
    spool = SqliteSpool(database, said.spool_bytes, most_of_tenant, time.time)
    work = Work(
        lanes=said.concurrency,
        patience=said.wait_seconds,
        drain=config.runtime.limits.drain_seconds,
    )
    worker = await enter(Worker(spool, pipelines, work, time.time))
    await enter(for_ever(_sweep(spool, said.keep_days)))
    ingestions = SpooledIngestions(spool, worker, pipelines.declared, time.time, new_id)
    return pipelines, ingestions, _taking(pipelines, worker)


def _taking(pipelines: RagPipelines, worker: Worker) -> TakePipelines:
    async def take(
        declared: Sequence[DeclaredPipeline], users: Users
    ) -> Sequence[DeclaredPipeline]:
        before = {each.name for each in pipelines.declarations}
        changed = await pipelines.take_files(declared, users)
        found = pipelines.declarations
        if gone := before - {each.name for each in found}:
            _log.info("pipelines removed", pipelines=sorted(gone))
        if changed:
            _log.info("pipelines taken over", pipelines=sorted(changed))
        for each in found:
            if each.reason:
                _log.warning("pipeline not taken over", pipeline=each.name, reason=each.reason)
        try:
            await worker.changed(changed)
        except AstromeshError as error:  # they go on at the end of their pause
            _log.warning("ingestions that wait not looked up", error=error.message)
        return found

    return take


async def _sweep(spool: Spool, keep_days: int) -> None:
    while True:
        try:
            await spool.sweep(time.time() - keep_days * _DAY)
        except AstromeshError as error:  # tried again an hour later
            _log.warning("operations that ended long ago not removed", error=error.message)
        except Exception as error:  # nobody waits for it who could hear of it
            _log.exception("removing operations broke", error=repr(error))
        await asyncio.sleep(_SWEEP)
