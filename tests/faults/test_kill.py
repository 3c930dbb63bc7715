"""A mesh that is killed in the middle of a run, and started again."""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import aclosing, closing
from pathlib import Path

import grpc
import pytest

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.run_events import Restarted, TextDelta, ToolReturned
from servers.domain.runs import RunRequest, RunState
from servers.domain.tools import Outcome
from servers.kernel.errors import Unavailable
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, Then
from tests.scripted.openai_server import openai_server

ME = Caller()
ROOT = Path(__file__).parents[2]
MAIL = Reply((), calls=[Call("send_mail", '{"to": "ada"}')])
TOOLS = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]


def command(folder: Path) -> list[str]:
    folders = ["--config", str(folder / "config"), "--state", str(folder / "state")]
    return [sys.executable, "-m", "servers", *folders, "--grpc-port", "0"]


class Victim:
    """A mesh in a process of its own, over one state folder for all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        """Returns the port it serves."""
        env = os.environ | {"EFFECTS_DIR": str(self.folder), "PYTHONPATH": str(ROOT)}
        self.process = await asyncio.create_subprocess_exec(
            *command(self.folder), stdout=PIPE, stderr=DEVNULL, env=env, cwd=ROOT
        )
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                    self.port = int(found[1])
                    return self.port
        raise AssertionError(f"the mesh ended with {await self.process.wait()}")

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def has_on_disk(self, text: str) -> bool:
        """Whether an event with it was written: until then a crash may take it."""
        with closing(sqlite3.connect(f"file:{self.folder}/state/runs.db?mode=ro", uri=True)) as db:
            sql = "SELECT 1 FROM run_event WHERE instr(body, ?) > 0"
            return db.execute(sql, (text.encode(),)).fetchone() is not None

    def sent(self) -> list[str]:
        path = self.folder / "sent"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
async def victim(tmp_path):
    victim = Victim(tmp_path)
    yield victim
    await victim.kill()


@contextlib.asynccontextmanager
async def dialled(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteAgents(channel)


async def seen(agents, run_id, after=0):
    async with asyncio.timeout(PATIENCE), aclosing(agents.events(ME, run_id, after)) as events:
        return [event async for event in events]


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


async def start_run(victim):
    async with dialled(await victim.start()) as agents:
        return (await agents.create_run(ME, RunRequest("helper", "mail ada"))).id


async def test_a_tool_that_was_running_is_not_called_again_and_the_model_is_told(victim):
    (victim.folder / "hold").touch()
    async with openai_server(MAIL, Reply(("I am not sure",))) as model:
        write_agents(victim.folder, agent("helper", model.endpoint, tools=TOOLS))
        run_id = await start_run(victim)
        await until(victim.sent)
        await victim.kill()
        (victim.folder / "hold").unlink()
        async with dialled(await victim.start()) as agents:
            events = await seen(agents, run_id)
    (result,) = [e.payload for e in events if isinstance(e.payload, ToolReturned)]
    run = events[-1].payload.run
    assert victim.sent() == ["ada"]
    assert result.outcome is Outcome.UNKNOWN
    assert (run.state, run.answer, run.attempt) == (RunState.COMPLETED, "I am not sure", 2)


async def test_a_tool_that_had_answered_is_not_called_again(victim):
    replies = MAIL, Reply((), then=Then.HANG), Reply(("It is sent",))
    async with openai_server(*replies) as model:
        write_agents(victim.folder, agent("helper", model.endpoint, tools=TOOLS))
        run_id = await start_run(victim)
        await until(lambda: len(model.requests) == 2 and victim.has_on_disk("sent to ada"))
        await victim.kill()
        async with dialled(await victim.start()) as agents:
            run = (await seen(agents, run_id))[-1].payload.run
    assert victim.sent() == ["ada"]
    assert model.requests[2].body["messages"][-1]["content"] == "sent to ada"
    assert (run.state, run.answer) == (RunState.COMPLETED, "It is sent")


async def test_a_reader_that_comes_back_with_its_cursor_misses_nothing(victim):
    replies = Reply(("Once", " upon"), then=Then.HANG), Reply(("The", " end"))
    async with openai_server(*replies) as model:
        write_agents(victim.folder, agent("helper", model.endpoint))
        run_id = await start_run(victim)
        first: list = []
        with contextlib.suppress(Unavailable):
            async with dialled(victim.port) as agents:
                async for event in agents.events(ME, run_id):
                    first.append(event)
                    if sum(isinstance(e.payload, TextDelta) for e in first) == 2:
                        await victim.kill()
        async with dialled(await victim.start()) as agents:
            rest = await seen(agents, run_id, after=first[-1].sequence)
    told = first + rest
    sequences = [event.sequence for event in told]
    (restart,) = [event for event in told if isinstance(event.payload, Restarted)]
    valid = [
        event.payload.text
        for event in told
        if isinstance(event.payload, TextDelta)
        and (event.sequence <= restart.payload.discard_after or event.sequence > restart.sequence)
    ]
    assert sequences == sorted(set(sequences))
    assert "".join(valid) == rest[-1].payload.run.answer == "The end"


async def test_a_run_that_had_ended_stays_as_it_was(victim):
    async with openai_server(Reply(("done",))) as model:
        write_agents(victim.folder, agent("helper", model.endpoint))
        run_id = await start_run(victim)
        async with dialled(victim.port) as agents:
            before = await seen(agents, run_id)
        await victim.kill()
        async with dialled(await victim.start()) as agents:
            after = await seen(agents, run_id)
    assert [(e.sequence, e.payload) for e in after] == [(e.sequence, e.payload) for e in before]


async def test_a_run_that_keeps_nothing_before_its_end_is_not_begun_again(victim):
    (victim.folder / "hold").touch()
    async with openai_server(MAIL, Reply(("sent",))) as model:
        spec = {"tools": TOOLS, "durability": "exit"}
        write_agents(victim.folder, agent("helper", model.endpoint, **spec))
        run_id = await start_run(victim)
        await until(victim.sent)
        await victim.kill()
        (victim.folder / "hold").unlink()
        async with dialled(await victim.start()) as agents:
            run = (await seen(agents, run_id))[-1].payload.run
    assert victim.sent() == ["ada"]
    assert (run.state, run.failure.reason) == (RunState.FAILED, "RUN_LOST")


async def test_a_second_mesh_on_the_same_state_folder_is_refused(victim):
    async with openai_server() as model:
        write_agents(victim.folder, agent("helper", model.endpoint))
        await victim.start()
        second = await asyncio.create_subprocess_exec(
            *command(victim.folder), stdout=DEVNULL, stderr=PIPE, cwd=ROOT
        )
        _, said = await asyncio.wait_for(second.communicate(), PATIENCE)
    assert second.returncode != 0
    assert "--state" in said.decode()
