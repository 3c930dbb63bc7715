"""Meshes that are killed while their runs are told: each episode is there once all the same."""

import grpc
import pytest

from servers.domain.episodes import EpisodeFilter, EpisodeOutcome, EpisodeType
from servers.domain.runs import RunRequest, RunState
from servers.memory.remote import RemoteMemory
from tests.faults.replicas import ME, fleet, followed
from tests.running import agent
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

MAIL = Reply((), calls=[Call("send_mail", '{"to": "ada"}')])
TOOLS = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]


async def told(replica, agent_name: str):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
        asked = EpisodeFilter(ME.tenant, agent_name)
        page = await RemoteMemory(channel).episodes.list(asked)
    return [(each.type, each.run_id, each.outcome) for each in page.episodes[::-1]]


@pytest.mark.parametrize("runs", ["sqlite", "postgres"])
async def test_a_mesh_that_dies_between_the_telling_and_the_end_tells_each_once(
    tmp_path, request, runs
):
    dsn = request.getfixturevalue("postgres").schema() if runs == "postgres" else ""
    kept = {"postgres": {"dsn": dsn}} if dsn else {"backend": "sqlite"}
    async with openai_server(MAIL, Reply(("It is sent",))) as model:
        helper = agent("helper", model.endpoint, tools=TOOLS, memory={"episodic": kept})
        async with fleet(tmp_path, [helper], dsn) as meshes:
            first = await meshes.add(doom="told:1")
            async with first.dialled() as agents:
                run = await agents.create_run(ME, RunRequest("helper", "mail ada"))
            await first.died()
            if dsn:
                second = await meshes.add()  # another process, which takes the run over
            else:
                second = first
                await second.start()
            ended = await followed([second], run.id, [])
            episodes = await told(second, "helper")
    assert (ended.state, ended.attempt) == (RunState.COMPLETED, 2)
    assert meshes.effects() == {"ada": 1}
    assert episodes == [
        (EpisodeType.TOOL_CALL, run.id, EpisodeOutcome.SUCCEEDED),
        (EpisodeType.RUN, run.id, EpisodeOutcome.SUCCEEDED),
    ]
