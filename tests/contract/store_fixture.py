"""What the tests of vector stores share: each store, empty."""

import os
import uuid

import pytest

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.index_gpu import gpus
from tests.contract.vector_fixture import SPACE, Backend

MISSING = {
    **({} if gpus() else {"gpu": "there is no GPU that FAISS can use"}),
    **({} if os.environ.get("QDRANT_URL") else {"qdrant server": "QDRANT_URL names no server"}),
}
BACKENDS = (
    "faiss",
    "array",
    "device",
    "gpu",
    "pgvector",
    "qdrant",
    "chroma",
    "emulated",
    "qdrant server",
    "chroma server",
)
ODD = 'Robert\'); DROP TABLE point;-- "$ne" {"$gt": ""} \'\''


@pytest.fixture(params=[name for name in BACKENDS if name not in MISSING])
def backend(request, tmp_path) -> Backend:
    return backend_of(request.param, request, tmp_path)


def backend_of(name, request, folder) -> Backend:
    collection = f"c{uuid.uuid4().hex[:16]}"
    address = ""
    if name == "pgvector":
        address = request.getfixturevalue("postgres").schema()
    if name == "chroma server":
        address = request.getfixturevalue("chroma_server")
    if name == "qdrant server":
        address = os.environ["QDRANT_URL"]
    return Backend(name.partition(" ")[0], Collection(collection, folder, address))


@pytest.fixture
async def store(backend):
    async with backend.open() as store:
        await store.prepare(SPACE)
        yield store
