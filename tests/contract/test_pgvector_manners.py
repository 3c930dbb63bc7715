"""How the vector store in PostgreSQL behaves, beyond what all of them promise."""

from pathlib import Path

import asyncpg
import pytest

from servers.kernel.vectors import pgvector_search
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.pgvector import open_pgvector
from servers.kernel.vectors.ports import Scope
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, UP, points, record, unit


class TestPgvector:
    @pytest.fixture(params=[0, pgvector_search.EXACT], ids=["by its index", "one by one"])
    async def store(self, request, postgres):
        """One whose index of vectors is asked however little there is, and one as it is."""
        collection = Collection("many", Path("."), postgres.schema())
        async with open_pgvector(collection, exact=request.param) as store:
            await store.prepare(SPACE)
            yield store

    async def test_finds_one_tenant_behind_the_points_of_many(self, store):
        around = [unit(1, n / 800, n % 7 / 100, n % 11 / 100) for n in range(800)]
        await store.replace("other", record("theirs"), points(*around))
        await store.replace("acme", record("mine"), points(NORTH))
        found = await store.search(ACME, EAST, 1, {})
        assert [each.record.id for each in found] == ["mine"]

    async def test_finds_what_one_may_see_behind_what_one_may_not(self, store):
        near = [unit(1, 0, 0, n / 3000) for n in range(600)]
        await store.replace("acme", record("hers", acl=("alice",)), points(*near))
        await store.replace("acme", record("his", acl=("bob",)), points(NORTH, UP))
        found = await store.search(Scope("acme", "bob"), EAST, 4000, {})
        assert [(each.record.id, each.index) for each in found] == [("his", 0), ("his", 1)]

    async def test_finds_all_that_there_is(self, store):
        await store.replace("acme", record("equal"), points(*[EAST] * 800))
        await store.replace("acme", record("other"), points(NORTH, UP, unit(1, 1, 0, 0)))
        found = await store.search(ACME, NORTH, 4000, {})
        assert [(each.record.id, each.index) for each in found[:2]] == [("other", 0), ("other", 2)]
        assert len(found) == 803


async def test_pgvector_takes_a_record_that_is_longer_at_work_than_one_answer(postgres):
    collection = Collection("long", Path("."), postgres.schema())
    schema = collection.address.rpartition("=")[2]
    async with open_pgvector(collection, answer=1.0) as store:
        await store.prepare(SPACE)
        slow = f"FUNCTION {schema}.slow()"
        postgres.psql(
            f"CREATE {slow} RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END'; "
            f"CREATE TRIGGER slow BEFORE INSERT ON {schema}.vectors_long_p "
            f"FOR EACH ROW EXECUTE {slow}"
        )
        await store.replace("acme", record("long"), points(*[EAST] * 1500))
        assert await store.count("acme") == 1500


async def test_pgvector_works_wherever_the_extension_is(postgres):
    """In a schema that no search_path leads to, and whose name has to be quoted."""
    address = postgres.libpq()
    connection = await asyncpg.connect(address)
    sql = 'CREATE SCHEMA "of Others"; CREATE EXTENSION vector SCHEMA "of Others"'
    await connection.execute(sql)
    await connection.close()
    async with open_pgvector(Collection("else", Path("."), address), exact=0) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST, NORTH, text="fox"))
        assert [each.index for each in await store.search(ACME, NORTH, 1, {})] == [1]
        assert len(await store.keywords(ACME, "fox", 9, {})) == 2
