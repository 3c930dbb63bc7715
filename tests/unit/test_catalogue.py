"""Agents from files and from the API, seen together."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from servers.agents.adapters.sqlite.agents import MIGRATIONS, SqliteAgents
from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.files import read_agents
from servers.domain.agents import AgentRecord
from servers.kernel.errors import AlreadyExists, Conflict, InvalidInput, NotFound, NotReady
from servers.kernel.paths import Wrong
from servers.kernel.sqlite import open_database


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class NeedsTools:
    """What the planner would say of agents: those with the tool `gone` can't run."""

    async def __call__(self, agent, find) -> None:
        if any(tool.name == "gone" for tool in agent.spec.tools):
            raise NotReady("there is no tool 'gone'", reason="AGENT_NOT_READY")


def manifest(name: str = "a", system: str = "hi", **spec: Any) -> dict[str, Any]:
    return {
        "api_version": "astromesh/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {
            "model": {"primary": {"provider": "ollama", "model": "m"}},
            "prompts": {"system": system},
            **spec,
        },
    }


def with_key(key: str, endpoint: str = "https://h/v1") -> dict[str, Any]:
    choice = {"provider": "openai", "endpoint": endpoint, "api_key": key}
    return manifest(model={"primary": choice})


def write(folder: Path, name: str, system: str = "hi", file: str = "") -> None:
    (folder / f"{file or name}.agent.yaml").write_text(
        f"apiVersion: astromesh/v1\nkind: Agent\nmetadata: {{name: {name}}}\nspec:\n"
        f"  model: {{primary: {{provider: ollama, model: m}}}}\n  prompts: {{system: {system}}}\n"
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    @contextlib.asynccontextmanager
    async def open_catalogue(check=lambda agent: ()):
        async with open_database(tmp_path / "agents.db", MIGRATIONS) as database:
            declaring = Declaring({}, check)
            yield Catalogue(SqliteAgents(database), declaring, NeedsTools(), clock)

    return open_catalogue


@pytest.fixture
async def catalogue(opened):
    async with opened() as catalogue:
        yield catalogue


@pytest.fixture
def folder(tmp_path) -> Path:
    agents = tmp_path / "agents"
    agents.mkdir()
    return agents


def take(catalogue: Catalogue, folder: Path) -> None:
    catalogue.take_files(read_agents(folder, Declaring()))


def system_of(record: AgentRecord) -> str:
    return record.manifest["spec"]["prompts"]["system"]


class TestAnAgentFromTheApi:
    async def test_can_be_read_and_run_after_it_was_created(self, catalogue):
        created = await catalogue.create("t", manifest())
        assert await catalogue.get("t", "a") == created
        assert created.source == "api"
        assert (await catalogue.runnable("t", "a")).name == "a"

    async def test_is_there_after_a_restart(self, opened):
        async with opened() as catalogue:
            created = await catalogue.create("t", manifest())
        async with opened() as catalogue:
            assert await catalogue.get("t", "a") == created

    async def test_belongs_to_its_tenant(self, catalogue):
        await catalogue.create("t", manifest())
        with pytest.raises(NotFound):
            await catalogue.get("u", "a")

    async def test_cannot_be_created_twice(self, catalogue):
        await catalogue.create("t", manifest())
        with pytest.raises(AlreadyExists, match="there is an agent 'a' already"):
            await catalogue.create("t", manifest())

    async def test_is_only_looked_at_with_validate_only(self, catalogue):
        seen = await catalogue.create("t", manifest(), validate_only=True)
        assert seen.ready
        with pytest.raises(NotFound):
            await catalogue.get("t", "a")

    async def test_that_is_faulty_is_refused_with_every_violation(self, catalogue):
        faulty = manifest(system="{% if %}", toolz=1)
        del faulty["spec"]["model"]
        with pytest.raises(InvalidInput) as caught:
            await catalogue.create("t", faulty)
        assert {each.field for each in caught.value.violations} == {"spec.model", "spec.toolz"}

    async def test_with_a_tool_that_is_not_there_is_refused(self, catalogue):
        with pytest.raises(InvalidInput, match="there is no tool 'gone'") as caught:
            await catalogue.create("t", manifest(tools=[{"name": "gone"}]))
        assert caught.value.reason == "MANIFEST_INVALID"

    async def test_may_not_name_functions(self, catalogue):
        with pytest.raises(InvalidInput, match="only agents in files may name functions"):
            await catalogue.create("t", manifest(tools=[{"name": "x", "function": "os:system"}]))

    async def test_may_not_name_environment_variables_as_keys(self, catalogue):
        faulty = manifest()
        faulty["spec"]["model"]["primary"]["api_key_env"] = "DATABASE_PASSWORD"
        with pytest.raises(InvalidInput, match="only agents in files may name environment"):
            await catalogue.create("t", faulty)

    async def test_may_not_read_our_environment(self, catalogue):
        with pytest.raises(InvalidInput, match="which only files may do"):
            await catalogue.create("t", with_key("${HOME}"))

    async def test_is_gone_when_deleted(self, catalogue):
        await catalogue.create("t", manifest())
        await catalogue.delete("t", "a")
        with pytest.raises(NotFound):
            await catalogue.runnable("t", "a")

    async def test_stays_when_its_deletion_is_only_validated(self, catalogue):
        await catalogue.create("t", manifest())
        await catalogue.delete("t", "a", validate_only=True)
        assert await catalogue.get("t", "a")

    async def test_that_no_longer_loads_is_listed_with_its_reason(self, opened):
        async with opened() as catalogue:
            await catalogue.create("t", manifest())
        async with opened(lambda agent: [Wrong(("spec",), "the provider went away")]) as catalogue:
            record = await catalogue.get("t", "a")
            assert (record.ready, record.reason) == (False, "spec: the provider went away")
            with pytest.raises(NotReady, match="the provider went away") as caught:
                await catalogue.runnable("t", "a")
        assert caught.value.reason == "AGENT_NOT_READY"


class TestAnUpdate:
    async def test_replaces_the_whole_where_no_field_is_named(self, catalogue, clock):
        created = await catalogue.create("t", manifest(concurrency="reject"))
        clock.now = 200.0
        updated = await catalogue.update("t", manifest(system="new"))
        assert system_of(updated) == "new"
        assert "concurrency" not in updated.manifest["spec"]
        assert (updated.created_at, updated.updated_at) == (created.created_at, 200.0)

    async def test_replaces_the_named_fields_only(self, catalogue):
        await catalogue.create("t", manifest(concurrency="reject"))
        sent = manifest(system="new", concurrency="replace")
        updated = await catalogue.update("t", sent, fields=["spec.prompts"])
        assert system_of(updated) == "new"
        assert updated.manifest["spec"]["concurrency"] == "reject"

    async def test_removes_a_named_field_that_was_not_sent(self, catalogue):
        await catalogue.create("t", manifest(concurrency="reject"))
        updated = await catalogue.update("t", manifest(), fields=["spec.concurrency"])
        assert "concurrency" not in updated.manifest["spec"]

    async def test_of_an_unknown_field_names_the_nearest(self, catalogue):
        await catalogue.create("t", manifest())
        with pytest.raises(InvalidInput, match=r"no field 'spec.promts'; did you mean 'prompts'"):
            await catalogue.update("t", manifest(), fields=["spec.promts"])

    async def test_takes_effect_for_the_next_run(self, catalogue):
        await catalogue.create("t", manifest())
        before = await catalogue.runnable("t", "a")
        await catalogue.update("t", manifest(system="new"))
        after = await catalogue.runnable("t", "a")
        assert (before.spec.prompts.system, after.spec.prompts.system) == ("hi", "new")

    async def test_with_the_etag_that_was_read_is_taken(self, catalogue):
        created = await catalogue.create("t", manifest())
        updated = await catalogue.update("t", manifest(system="new"), etag=created.etag)
        assert updated.etag != created.etag

    async def test_with_an_older_etag_conflicts(self, catalogue):
        created = await catalogue.create("t", manifest())
        await catalogue.update("t", manifest(system="new"))
        with pytest.raises(Conflict) as caught:
            await catalogue.update("t", manifest(system="newer"), etag=created.etag)
        assert caught.value.reason == "ETAG_MISMATCH"

    async def test_that_is_undone_does_not_bring_the_old_etag_back(self, catalogue):
        created = await catalogue.create("t", manifest())
        await catalogue.update("t", manifest(system="new"))
        assert (await catalogue.update("t", manifest())).etag != created.etag

    async def test_of_a_missing_agent_is_an_error_that_names_the_nearest(self, catalogue):
        await catalogue.create("t", manifest("support"))
        with pytest.raises(NotFound, match=r"no agent 'suport'; did you mean 'support'\?"):
            await catalogue.update("t", manifest("suport"))

    async def test_of_a_missing_agent_creates_it_where_that_is_allowed(self, catalogue):
        await catalogue.update("t", manifest(), allow_missing=True)
        assert await catalogue.get("t", "a")

    async def test_of_two_at_once_is_one(self, catalogue):
        await catalogue.create("t", manifest())
        changes = (catalogue.update("t", manifest(system=str(n))) for n in range(2))
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        assert sum(isinstance(each, AgentRecord) for each in outcomes) >= 1
        assert all(isinstance(each, AgentRecord | Conflict) for each in outcomes)


class TestAKey:
    async def test_is_never_shown(self, catalogue):
        created = await catalogue.create("t", with_key("hunter2"))
        assert "hunter2" not in repr(created)

    async def test_stays_when_its_stars_are_sent_back(self, catalogue):
        await catalogue.create("t", with_key("hunter2"))
        await catalogue.update("t", with_key("***"))
        assert (await catalogue.runnable("t", "a")).models()[0].api_key == "hunter2"

    async def test_does_not_go_to_another_endpoint(self, catalogue):
        await catalogue.create("t", with_key("hunter2"))
        with pytest.raises(InvalidInput, match="send the key itself"):
            await catalogue.update("t", with_key("***", endpoint="https://elsewhere/v1"))

    async def test_of_stars_is_none_at_first(self, catalogue):
        with pytest.raises(InvalidInput, match="send the key itself"):
            await catalogue.create("t", with_key("***"))


class TestAnAgentFromAFile:
    async def test_is_every_tenants(self, catalogue, folder):
        write(folder, "a")
        take(catalogue, folder)
        assert (await catalogue.get("t", "a")).source == "file:a.agent.yaml"
        assert await catalogue.get("u", "a") == await catalogue.get("t", "a")

    @pytest.mark.parametrize("change", ["update", "delete"])
    async def test_cannot_be_changed_through_the_api(self, catalogue, folder, change):
        write(folder, "a")
        take(catalogue, folder)
        with pytest.raises(NotReady, match=r"declared in a\.agent\.yaml") as caught:
            await getattr(catalogue, change)("t", manifest() if change == "update" else "a")
        assert caught.value.reason == "AGENT_FROM_FILE"

    async def test_cannot_be_created_again(self, catalogue, folder):
        write(folder, "a")
        take(catalogue, folder)
        with pytest.raises(AlreadyExists):
            await catalogue.create("t", manifest())

    async def test_that_is_faulty_is_listed_with_its_reason(self, catalogue, folder):
        (folder / "a.agent.yaml").write_text("a: [")
        take(catalogue, folder)
        record = await catalogue.get("t", "a")
        assert not record.ready
        assert record.reason.startswith("a.agent.yaml:2:1: not valid YAML")

    async def test_that_is_faulty_cannot_run_for_that_reason(self, catalogue, folder):
        (folder / "a.agent.yaml").write_text("a: [")
        take(catalogue, folder)
        with pytest.raises(NotReady, match=r"agent 'a' can't run: .*not valid YAML") as caught:
            await catalogue.runnable("t", "a")
        assert caught.value.reason == "AGENT_NOT_READY"

    async def test_without_one_of_its_tools_says_so(self, catalogue, folder):
        write(folder, "a")
        with (folder / "a.agent.yaml").open("a") as file:
            file.write("  tools: [gone]\n")
        take(catalogue, folder)
        record = await catalogue.get("t", "a")
        assert (record.ready, record.reason) == (False, "there is no tool 'gone'")


class TestAReload:
    async def test_that_changed_nothing_keeps_the_very_agent(self, catalogue, folder):
        write(folder, "a")
        take(catalogue, folder)
        before = await catalogue.runnable("t", "a")
        take(catalogue, folder)
        assert await catalogue.runnable("t", "a") is before

    async def test_of_a_faulty_file_leaves_the_last_good_agent_and_says_why(
        self, catalogue, folder
    ):
        write(folder, "named", file="other")
        take(catalogue, folder)
        (folder / "other.agent.yaml").write_text("a: [")
        take(catalogue, folder)
        record = await catalogue.get("t", "named")
        assert record.ready
        assert record.reason.startswith("other.agent.yaml:2:1: not valid YAML")
        assert await catalogue.runnable("t", "named")

    async def test_of_the_repaired_file_takes_the_reason_away(self, catalogue, folder):
        write(folder, "a")
        take(catalogue, folder)
        (folder / "a.agent.yaml").write_text("a: [")
        take(catalogue, folder)
        write(folder, "a", system="new")
        take(catalogue, folder)
        record = await catalogue.get("t", "a")
        assert (record.reason, system_of(record)) == ("", "new")

    @pytest.mark.parametrize("other", ["a", "z"])
    async def test_with_a_second_file_of_its_name_leaves_the_agent_and_names_both(
        self, catalogue, folder, other
    ):
        """Whichever comes first by name."""
        write(folder, "named")
        take(catalogue, folder)
        write(folder, "named", file=other)
        take(catalogue, folder)
        record = await catalogue.get("t", "named")
        assert (record.ready, "both declare the agent 'named'" in record.reason) == (True, True)

    async def test_without_a_file_removes_its_agent(self, catalogue, folder):
        write(folder, "a")
        take(catalogue, folder)
        (folder / "a.agent.yaml").unlink()
        take(catalogue, folder)
        with pytest.raises(NotFound):
            await catalogue.runnable("t", "a")


class TestAList:
    async def test_is_by_name_from_files_and_api_together(self, catalogue, folder):
        write(folder, "b")
        take(catalogue, folder)
        for name in ("c", "a"):
            await catalogue.create("t", manifest(name))
        page = await catalogue.list("t")
        assert [each.name for each in page.agents] == ["a", "b", "c"]

    async def test_comes_in_pages_that_miss_nothing_and_repeat_nothing(self, catalogue, folder):
        for name in ("b", "d"):
            write(folder, name)
        take(catalogue, folder)
        for name in ("a", "c", "e"):
            await catalogue.create("t", manifest(name))
        seen, page_token = [], ""
        for _ in range(3):
            page = await catalogue.list("t", 2, page_token)
            seen += [each.name for each in page.agents]
            page_token = page.next_page_token
        assert (seen, page_token) == (["a", "b", "c", "d", "e"], "")

    async def test_refuses_a_token_of_another_tenants_list(self, catalogue):
        for name in ("a", "b"):
            await catalogue.create("t", manifest(name))
        page = await catalogue.list("t", 1)
        with pytest.raises(InvalidInput, match="page_token"):
            await catalogue.list("u", 1, page.next_page_token)
