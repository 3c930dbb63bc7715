"""What the tests of RAG share: pipelines over a small model, reached both ways."""

import pytest
import pytest_asyncio

from tests.contract.rag_fixture import (
    ALICE,
    asks,
    in_process,
    over_the_wire,
    packaged_router,
    pipeline,
    service,
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


# The model is loaded once: that takes a second.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(model_folder):
    async with packaged_router(model_folder) as router:
        yield router


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest_asyncio.fixture(loop_scope="module")
async def rag(reached, tmp_path, router):
    async with service(tmp_path, router, pipeline()) as kept, reached(kept) as rag:
        yield rag


async def found(rag, text, caller=ALICE, **more):
    return [each.document for each in await rag.query(caller, asks(text, **more))]
