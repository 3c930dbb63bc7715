"""`astromesh runs delete` and `astromesh principals` against a mesh that runs."""

import asyncio
import json

import grpc
import pytest
import pytest_asyncio
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.runs import RunRequest, RunState
from tests.mesh.program import invoked, up, write_config
from tests.running import agent
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEMORY = {"episodic": {}, "conversational": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory):
    """A way to run commands, and one to have runs on somebody's behalf; the model hangs where it
    is asked to wait."""
    folder = tmp_path_factory.mktemp("mesh")
    async with (
        openai_server(Reply(("Hello",))) as model,
        openai_server(Reply((), then=Then.HANG)) as slow,
    ):
        config = write_config(folder / "config", model.endpoint)
        for declared in (
            agent("helper", model.endpoint, memory=MEMORY),
            agent("sleeper", slow.endpoint, memory=MEMORY),
        ):
            path = config / "agents" / f"{declared['metadata']['name']}.agent.yaml"
            path.write_text(yaml.safe_dump(declared))
        async with (
            up(config, folder / "state", "--no-envoy") as mesh,
            grpc.aio.insecure_channel(mesh.address) as channel,
        ):

            async def cli(*words: str, input: str = ""):
                words = (*words, "--address", mesh.address)
                return await asyncio.to_thread(invoked, *words, input=input)

            yield cli, RemoteAgents(channel)


async def has_run(agents, name: str, **other) -> str:
    work = RunRequest("helper", f"what {name} asks", **other)
    return (await agents.run(Caller("default", name), work)).id


async def known(cli, *words: str) -> list[str]:
    done = await cli("runs", "list", *words, "--output", "json")
    return [run["run_id"] for run in json.loads(done.out)]


async def test_a_run_is_deleted_by_its_id_when_that_is_confirmed(mesh):
    cli, agents = mesh
    run = await has_run(agents, "ada")
    assert (await cli("runs", "delete", run, input="n\n")).code == 1
    assert run in await known(cli)
    done = await cli("runs", "delete", run, input="y\n")
    assert (done.code, f"run {run} deleted" in done.out) == (0, True)
    assert run not in await known(cli)


async def test_runs_are_deleted_by_what_is_said_of_them_after_their_number_was_told(mesh):
    cli, agents = mesh
    for session in ("s1", "s1", "s2"):
        await has_run(agents, "bob", session=session)
    refused = await cli("runs", "delete", "--session", "s1", input="n\n")
    assert (refused.code, "Forget 2 runs?" in refused.out) == (1, True)
    done = await cli("runs", "delete", "--session", "s1", "--yes")
    assert (done.code, done.out) == (0, "2 runs deleted\n")
    assert len(await known(cli, "--principal", "bob")) == 1
    older = await cli("runs", "delete", "--principal", "bob", "--ended-before", "7d", "--yes")
    assert older.out == "0 runs deleted\n"


@pytest.mark.parametrize("words", [(), ("r1", "--session", "s")])
async def test_which_runs_has_to_be_said(mesh, words):
    cli, _ = mesh
    assert (await cli("runs", "delete", *words)).code == 2


async def test_a_run_that_goes_on_is_left_and_said_to_be(mesh):
    cli, agents = mesh
    run = await agents.create_run(Caller("default", "eve"), RunRequest("sleeper", "wait"))
    done = await cli("runs", "delete", "--principal", "eve", "--yes")
    assert (done.out, "1 runs left" in done.err) == ("0 runs deleted\n", True)
    assert (await cli("runs", "delete", run.id, "--yes")).code == 1
    forced = await cli("runs", "delete", run.id, "--yes", "--force")
    assert forced.code == 0


async def test_a_person_is_handed_out_all_there_is_of_him_and_then_forgotten(mesh):
    cli, agents = mesh
    run, other = await has_run(agents, "kay", session="k"), await has_run(agents, "tom")
    going = await agents.create_run(Caller("default", "kay"), RunRequest("sleeper", "wait"))
    told = await cli("principals", "export", "kay")
    assert told.code == 0
    lines = [json.loads(line) for line in told.out.splitlines()]
    runs = {line["run"]["run_id"]: line["run"] for line in lines if "run" in line}
    assert runs.keys() == {run, going.id}
    kinds = [next(iter(line)) for line in lines]
    assert kinds.count("record") == 3  # two turns and an episode
    ends = [line["event"]["completed"] for line in lines if "completed" in line.get("event", ())]
    assert [end["answer"] for end in ends] == ["Hello"]

    assert (await cli("principals", "erase", "kay", input="n\n")).code == 1
    done = await cli("principals", "erase", "kay", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == [
        "runs: 2 deleted",
        "memory: 2 turns, 0 memories, 2 episodes deleted",
    ]
    assert "not touched: documents of RAG pipelines" in done.out
    assert (await cli("principals", "export", "kay")).out == ""
    assert await known(cli, "--principal", "kay") == []
    assert await known(cli, "--principal", "tom") == [other]
    ended = await agents.get_run(Caller("default", "tom"), other)
    assert ended.state is RunState.COMPLETED


async def test_a_request_says_what_is_not_done_where_memory_is_away_and_can_be_made_again(mesh):
    cli, agents = mesh
    await has_run(agents, "lee", session="l")
    nobody = ("--memory-address", "127.0.0.1:1")
    broken = await cli("principals", "erase", "lee", "--yes", *nobody)
    assert (broken.code != 0, broken.out) == (True, "runs: 1 deleted\n")
    assert "memory: not all is deleted: ask again" in broken.err
    assert "127.0.0.1:1" in broken.err
    again = await cli("principals", "erase", "lee", "--yes")
    assert (again.code, again.out.splitlines()[0]) == (0, "runs: 0 deleted")
    assert "memory: 2 turns" in again.out
