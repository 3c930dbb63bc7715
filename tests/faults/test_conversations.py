"""A mesh that is killed when an answer is in its conversation, and nothing else of the end is."""

import asyncio

import grpc
import pytest

from servers.domain.memory import SessionKey
from servers.domain.runs import Durability, RunRequest, RunState
from servers.memory.remote import RemoteMemory
from tests.faults.replicas import ME, fleet, followed
from tests.running import agent
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

KEY = SessionKey(ME.tenant, "helper", "s")


@pytest.mark.parametrize("durability", [Durability.EXIT, Durability.STEP])
async def test_the_run_is_completed_with_this_answer(tmp_path, durability):
    known = asyncio.Event()  # the run, to who has asked for it
    first = Reply(("It is 5",), hold=known)
    async with openai_server(first, Reply(("It is 6",))) as model:
        helper = agent("helper", model.endpoint, memory={"conversational": {"backend": "sqlite"}})
        async with fleet(tmp_path, [helper], "") as meshes:
            mesh = await meshes.add(doom="kept:1")
            async with mesh.dialled() as agents:
                request = RunRequest("helper", "what is it?", session="s", durability=durability)
                run = await agents.create_run(ME, request)
            known.set()
            await mesh.died()
            await mesh.start()
            ended = await followed([mesh], run.id, [])
            async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}") as channel:
                kept = (await RemoteMemory(channel).turns(KEY)).turns
    assert (ended.state, ended.answer, ended.attempt) == (RunState.COMPLETED, "It is 5", 2)
    assert [turn.message.text for turn in kept] == ["what is it?", "It is 5"]
    assert len(model.requests) == 1
