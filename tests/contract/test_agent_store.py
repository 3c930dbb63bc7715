"""What every store of agents that were declared through the API promises."""

import pytest

from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.declare import Declaring
from servers.agents.ports import StoredAgent
from servers.kernel.errors import Conflict, NotFound
from tests.contract import run_fixture

MANIFEST = {"kind": "Agent", "spec": {"text": "a\0b", "number": 1.5, "list": [1, None, True]}}


def an_agent(name="helper", revision=1, **other) -> StoredAgent:
    values = {"tenant": "acme", "manifest": MANIFEST, "created_at": 1.0, "updated_at": 2.0} | other
    return StoredAgent(name=name, revision=revision, **values)


@pytest.fixture
def store(stores):
    return stores.agents


class TestPut:
    async def test_keeps_an_agent(self, store):
        await store.put(an_agent())
        assert await store.get("acme", "helper") == an_agent()

    async def test_replaces_the_revision_before(self, store):
        await store.put(an_agent())
        newer = an_agent(revision=2, manifest={"kind": "Agent"}, updated_at=3.0)
        await store.put(newer)
        assert await store.get("acme", "helper") == newer

    @pytest.mark.parametrize("revision", [1, 3])
    async def test_refuses_what_does_not_follow_on_the_stored_one(self, store, revision):
        await store.put(an_agent())
        with pytest.raises(Conflict, match="'helper'") as caught:
            await store.put(an_agent(revision=revision, updated_at=9.0))
        assert caught.value.reason == "ETAG_MISMATCH"
        assert await store.get("acme", "helper") == an_agent()

    async def test_refuses_a_revision_of_what_is_not_there(self, store):
        with pytest.raises(Conflict):
            await store.put(an_agent(revision=2))

    async def test_keeps_the_agents_of_tenants_apart(self, store):
        await store.put(an_agent())
        await store.put(an_agent(tenant="else", created_at=5.0))
        assert await store.get("acme", "helper") == an_agent()

    async def test_survives_the_process(self, opening):
        async with opening() as stores:
            await stores.agents.put(an_agent())
        async with opening() as stores:
            assert await stores.agents.get("acme", "helper") == an_agent()


class TestGet:
    async def test_of_an_unknown_agent_is_nothing(self, store):
        assert await store.get("acme", "helper") is None

    async def test_of_another_tenants_agent_is_nothing(self, store):
        await store.put(an_agent())
        assert await store.get("else", "helper") is None


class TestList:
    @pytest.fixture(autouse=True)
    async def agents(self, store):
        for name in ("b", "a", "c-1", "c", "d"):
            await store.put(an_agent(name))
        await store.put(an_agent("e", tenant="else"))

    async def test_is_by_name(self, store):
        names = [each.name for each in await store.list("acme", "", 10)]
        assert names == ["a", "b", "c", "c-1", "d"]

    async def test_goes_on_behind_a_name(self, store):
        assert [each.name for each in await store.list("acme", "b", 2)] == ["c", "c-1"]

    async def test_goes_on_behind_a_name_that_is_none(self, store):
        assert [each.name for each in await store.list("acme", "bb", 1)] == ["c"]


class TestDelete:
    async def test_removes_an_agent(self, store):
        await store.put(an_agent())
        await store.delete("acme", "helper", 1)
        assert await store.get("acme", "helper") is None

    async def test_lets_it_be_made_anew(self, store):
        await store.put(an_agent())
        await store.delete("acme", "helper", 1)
        await store.put(an_agent(created_at=7.0))
        assert await store.get("acme", "helper") == an_agent(created_at=7.0)

    @pytest.mark.parametrize("stored", [None, an_agent()])
    async def test_refuses_another_revision(self, store, stored):
        if stored:
            await store.put(stored)
        with pytest.raises(Conflict):
            await store.delete("acme", "helper", 2)
        assert await store.get("acme", "helper") == stored


class TestTwoCataloguesOnOneStore:
    """Those of two processes."""

    @pytest.fixture
    async def catalogues(self, postgres):
        async def sound(*_) -> None:
            pass

        times = iter(float(number) for number in range(1_000_000))
        dsn, declaring = postgres.schema(), Declaring({}, lambda _agent: ())
        async with run_fixture.postgres(dsn) as one, run_fixture.postgres(dsn) as two:
            yield tuple(
                Catalogue(each.agents, declaring, sound, lambda: next(times)) for each in (one, two)
            )

    def manifest(self, system: str):
        return {
            "api_version": "astromesh/v1",
            "kind": "Agent",
            "metadata": {"name": "helper"},
            "spec": {
                "model": {"primary": {"provider": "ollama", "model": "m"}},
                "prompts": {"system": system},
            },
        }

    async def prompt(self, catalogue):
        return (await catalogue.runnable("acme", "helper")).spec.prompts.system

    async def test_see_what_the_other_one_declares(self, catalogues):
        one, two = catalogues
        await one.create("acme", self.manifest("first"))
        assert await self.prompt(two) == "first"
        await one.update("acme", self.manifest("second"))
        assert await self.prompt(two) == "second"
        await one.delete("acme", "helper")
        with pytest.raises(NotFound):
            await two.runnable("acme", "helper")
        await one.create("acme", self.manifest("third"))
        assert await self.prompt(two) == "third"

    async def test_parse_what_did_not_change_once(self, catalogues):
        one, _ = catalogues
        await one.create("acme", self.manifest("first"))
        assert await one.runnable("acme", "helper") is await one.runnable("acme", "helper")

    async def test_do_not_take_what_was_made_anew_for_what_it_was(self, catalogues):
        one, two = catalogues
        await one.create("acme", self.manifest("first"))
        assert await self.prompt(two) == "first"
        await one.delete("acme", "helper")
        await one.create("acme", self.manifest("other"))
        assert await self.prompt(two) == "other"

    async def test_do_not_overwrite_one_another(self, catalogues):
        one, two = catalogues
        made = await one.create("acme", self.manifest("first"))
        await two.update("acme", self.manifest("second"), etag=made.etag)
        with pytest.raises(Conflict):
            await one.update("acme", self.manifest("third"), etag=made.etag)
        assert await self.prompt(one) == "second"


def test_an_agent_does_not_show_its_manifest():
    assert "text" not in repr(an_agent())
