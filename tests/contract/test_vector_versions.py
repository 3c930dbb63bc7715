"""Records that are replaced while somebody looks, in databases without transactions."""

from collections.abc import Sequence

import pytest

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.payloads import Head
from tests.contract.vector_fixture import ACME, NORTH, SPACE, points, record


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_record_that_is_replaced_meanwhile_is_found_once(
    backend, times, tmp_path, monkeypatch
):
    """Between a look at points and one at which versions there are."""
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        heads_of, written, left = store._heads_of, [1.0], [0]

        async def write() -> None:
            written[0] += 1
            await store.replace("acme", record("a", updated_at=written[0]), points(NORTH))

        async def replaced_before(tenant: str, records: Sequence[str]) -> list[Head]:
            if left[0]:
                left[0] -= 1
                await write()
            return await heads_of(tenant, records)

        await write()
        await store.replace("acme", record("b"), points(NORTH))
        monkeypatch.setattr(store, "_heads_of", replaced_before)
        for ask in (
            lambda: store.search(ACME, NORTH, 9, {}, True),
            lambda: store.keywords(ACME, "text", 9, {}),
            lambda: store.records(ACME, "", 9),
        ):
            left[0] = times
            found = [getattr(each, "record", each) for each in await ask()]
            assert sorted(each.id for each in found) == ["a", "b"]
            assert max(each.updated_at for each in found) >= written[0] - 1


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_one_that_is_deleted_meanwhile_is_not(backend, tmp_path, monkeypatch):
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        heads_of = store._heads_of

        async def deleted_before(tenant: str, records: Sequence[str]) -> list[Head]:
            monkeypatch.setattr(store, "_heads_of", heads_of)
            await store.delete("acme", "a")
            return await heads_of(tenant, records)

        for ask in (
            lambda: store.search(ACME, NORTH, 9, {}),
            lambda: store.keywords(ACME, "text", 9, {}),
            lambda: store.records(ACME, "", 9),
        ):
            await store.replace("acme", record("a"), points(NORTH))
            monkeypatch.setattr(store, "_heads_of", deleted_before)
            assert list(await ask()) == []
