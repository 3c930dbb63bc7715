"""Where runs keep what they remember, and what is kept where an agent remembers nothing."""

import asyncio

import pytest

from servers.domain.run_events import MemoriesRecalled, Noticed
from servers.domain.runs import RunRequest, RunState
from servers.domain.semantic import MemoryQuery, Reader, Remembered
from servers.kernel.errors import InvalidInput, NotReady
from tests.contract.remembering_fixture import (
    ADA,
    ALL,
    ANSWER,
    ASKED,
    AWAY,
    asks,
    kept,
    nothing_left,
    reader,
    system,
    told,
    world,
)
from tests.patience import PATIENCE
from tests.running import agent

__all__ = ["world"]


class TestNothing:
    async def test_is_kept_where_the_agent_says_so_but_found(self, world, tmp_path):
        async with world({"remember": {"policy": "none"}}) as (agents, model, mesh):
            await mesh.memory.semantic.remember(reader(ADA), Remembered("Ada sails a boat."))
            await agents.run(ADA, asks("Who sails a boat?"))
            await nothing_left(tmp_path)
            assert len(await kept(mesh)) == 1
        assert "- Ada sails a boat." in system(model.requests[0])

    async def test_is_shown_below_the_threshold_or_beyond_the_number(self, world):
        said = {"remember": {"policy": "none"}, "similarity_threshold": 0.4, "max_results": 1}
        async with world(said) as (agents, model, mesh):
            for text in ("Ada sails a boat.", "Ada sails a boat called Sepia.", "Tax is due."):
                await mesh.memory.semantic.remember(reader(ADA), Remembered(text))
            run = await agents.run(ADA, asks("Who sails a boat?"))
            (found,) = await told(agents, ADA, run, MemoriesRecalled)
        assert len(found.memories) == 1
        assert "Tax is due." not in system(model.requests[0])

    async def test_of_the_conversation_is_lost_by_it(self, world):
        talk = {"conversational": {}}
        async with world({"remember": ALL}, memory=talk) as (agents, model, mesh):
            await agents.run(ADA, asks("one"))
            await kept(mesh)
            await agents.run(ADA, asks("Where is the boat?"))
        contents = [m["content"] for m in model.requests[1].body["messages"]]
        assert contents[1:] == ["one", ANSWER, "Where is the boat?"]
        assert ANSWER in contents[0]


class TestACollection:
    async def test_of_runtime_yaml_is_named(self, world):
        facts = {"facts": {"backend": "faiss", "duplicate_threshold": 0.9}}
        said = {"collection": "facts", "remember": ALL}
        async with world(said, collections=facts) as (agents, _, mesh):
            await agents.run(ADA, asks())
            (memory,) = await kept(mesh, collection="facts")
        assert memory.collection == "facts"

    async def test_may_be_the_agents_alone(self, world, tmp_path):
        said = {"backend": "qdrant", "path": str(tmp_path / "own"), "remember": ALL}
        async with world(said) as (agents, _, mesh):
            await agents.run(ADA, asks())
            (memory,) = await kept(mesh)
        assert memory.collection == "agent:helper"
        assert (tmp_path / "own").is_dir()

    async def test_that_is_away_costs_a_notice_and_not_the_run(self, world):
        async with world({"collection": "away"}, collections=AWAY) as (agents, _, _):
            run = await agents.run(ADA, asks())
            (notice,) = await told(agents, ADA, run, Noticed)
            record = await agents.get(ADA, "helper")
        assert (run.state, run.answer) == (RunState.COMPLETED, ANSWER)
        assert notice.reason == "MEMORY_UNAVAILABLE"
        assert notice.message.startswith("semantic memory was not asked: Qdrant at http://")
        assert "can't be reached" in notice.message
        assert not record.ready
        assert "spec.memory.semantic.collection" in record.reason

    async def test_that_nobody_knows_is_an_error_at_load(self, world):
        async with world({"collection": "fcats"}) as (agents, _, _):
            with pytest.raises(NotReady, match="there is no collection 'fcats'"):
                await agents.run(ADA, asks())

    @pytest.mark.parametrize(
        "semantic",
        [
            {"backend": "faiss", "path": "/tmp/x"},
            {"backend": "qdrant", "connection": {"url": "http://127.0.0.1:6333"}},
            {"collection": "fcats"},
        ],
    )
    async def test_of_its_own_has_no_agent_from_the_api(self, world, semantic):
        async with world({}) as (agents, _, _):
            manifest = agent("other", "http://127.0.0.1:1", memory={"semantic": semantic})
            with pytest.raises(InvalidInput) as caught:
                await agents.create(ADA, manifest)
            assert caught.value.violations[0].field.startswith("spec.memory.semantic")

    async def test_is_the_default_for_an_agent_from_the_api(self, world):
        async with world({}) as (agents, model, mesh):
            semantic = {"remember": ALL, "scope": "agent"}
            manifest = agent("other", model.endpoint, memory={"semantic": semantic})
            await agents.create(ADA, manifest)
            await agents.run(ADA, RunRequest("other", ASKED))
            other = Reader("acme", "other", "ada")
            async with asyncio.timeout(PATIENCE):
                while not (  # noqa: ASYNC110
                    await mesh.memory.semantic.memories(other, MemoryQuery())
                ).memories:
                    await asyncio.sleep(0.02)
