"""The backend `faiss` where its package isn't installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from servers.kernel.vectors import faiss
from servers.kernel.vectors.index_faiss import FaissIndex
from servers.kernel.vectors.index_flat import FlatIndex
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, UP, points, record

PROGRAM = """
import asyncio, sys
from pathlib import Path

sys.modules["faiss"] = None  # as if it weren't there
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, points, record

async def main(folder):
    async with open_collection("faiss", Collection("c", folder)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(NORTH, EAST))
        found = await store.search(ACME, EAST, 1, {})
        print(found[0].record.id, found[0].index)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_its_collections_are_kept_and_searched_all_the_same(tmp_path):
    root = Path(__file__).parents[2]
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "a 1", done.stderr


@pytest.mark.parametrize(("first", "then"), [(FaissIndex, FlatIndex), (FlatIndex, FaissIndex)])
async def test_a_collection_goes_on_when_the_package_comes_or_goes(tmp_path, first, then):
    for index in (first, then, first):
        async with faiss.open_faiss(tmp_path, "c", new_index=index) as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("old"), points(EAST))
            await store.replace("acme", record(index.__name__), points(NORTH, UP))
            await store.delete("acme", "old")
    async with faiss.open_faiss(tmp_path, "c", new_index=then) as store:
        found = await store.search(ACME, UP, 10, {})
        assert {each.record.id for each in found[:2]} == {"FaissIndex", "FlatIndex"}
        assert [each.index for each in found[:2]] == [1, 1]
        assert len(found) == 4
