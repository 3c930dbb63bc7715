"""What the tests of semantic memory share: a memory over each store, reached both ways."""

import pytest
import pytest_asyncio

from tests.contract.rag_fixture import packaged_router
from tests.contract.semantic_fixture import WAYS, where


# The model is loaded once: that takes a second.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest.fixture(params=WAYS)
def way(request, tmp_path):
    """A place for memories, and how they are asked for."""
    return where(request.param.partition(",")[0], request, tmp_path), WAYS[request.param]


@pytest_asyncio.fixture(loop_scope="module")
async def memory(way, router):
    place, reached = way
    async with place.memory(router, reached) as memory:
        yield memory.semantic
