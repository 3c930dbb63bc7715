"""Puts the RAG service together."""

import time
from contextlib import AsyncExitStack

from servers.config import MeshConfig
from servers.domain.services import Router
from servers.kernel.vectors.stores import Stores, store_at
from servers.rag.adapters import readers
from servers.rag.service import RagPipelines


async def open_rag(config: MeshConfig, stack: AsyncExitStack, router: Router) -> RagPipelines:
    """Stores are opened when they are first wanted: one that is away stops nothing else."""
    stores = await stack.enter_async_context(Stores(store_at(config.state_dir / "rag")))
    return RagPipelines(
        config.pipelines, router, stores, readers.read, readers.media_type_of, time.time
    )
