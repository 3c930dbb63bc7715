"""`astromesh up`: what is said, what listens, and that nothing is left behind."""

import asyncio
import json
import shlex
import signal
import socket
import subprocess

import grpc
import httpx
import psutil
import pytest

from servers.cli import failures
from tests.mesh.program import Up, astromesh, start, up, write_config
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

NOBODY = "http://127.0.0.1:1"
DEBUG = ("--log-format", "json", "--log-level", "debug")


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / "config", NOBODY, "assistant")


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


async def refused(config, state, *options: str) -> str:
    """What `up` says when it can't start: one line, and an exit code that tells."""
    folders = ("--config", str(config), "--state", str(state), "--http-port", "0")
    done = await astromesh("up", *folders, *options)
    assert done.code == failures.FAILED
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    return done.err


def children(mesh: Up) -> list[psutil.Process]:
    return psutil.Process(mesh.process.pid).children(recursive=True)


class TestAMeshThatCannotStart:
    async def test_names_the_grpc_port_that_is_taken(self, config, state):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            said = await refused(config, state, "--no-envoy", "--grpc-port", port)
        assert port in said
        assert "--grpc-port" in said

    @pytest.mark.envoy
    async def test_names_the_rest_port_that_is_taken(self, config, state):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            said = await refused(config, state, "--grpc-port", "0", "--http-port", port)
        assert port in said
        assert "--http-port" in said

    async def test_names_the_configuration_that_is_missing(self, tmp_path, state):
        said = await refused(tmp_path / "nowhere", state, "--no-envoy", "--grpc-port", "0")
        assert "nowhere" in said
        assert "--config" in said

    async def test_names_the_state_folder_that_is_none(self, config, state):
        state.write_text("a file")
        said = await refused(config, state, "--no-envoy", "--grpc-port", "0")
        assert str(state) in said
        assert "--state" in said

    async def test_names_the_mesh_that_has_the_state_folder(self, config, state):
        async with up(config, state, "--no-envoy") as mesh:
            said = await refused(config, state, "--no-envoy", "--grpc-port", "0")
        assert f"process {mesh.process.pid}" in said


@pytest.mark.envoy
class TestAMeshThatStarts:
    async def test_asks_its_assistant_through_envoy_and_shows_the_answer(self, tmp_path, state):
        async with openai_server(Reply(pieces=("I can", " help."))) as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state) as mesh:
                await mesh.read_until("I can help.")

    async def test_can_be_told_not_to_ask(self, tmp_path, state):
        async with openai_server() as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state, "--no-hello") as mesh:
                mesh.process.send_signal(signal.SIGTERM)
                await mesh.ended()
        assert model.requests == []

    async def test_stays_up_when_its_assistant_has_no_model(self, config, state):
        async with (
            up(config, state) as mesh,
            httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client,
        ):
            await mesh.logs("error: ")
            assert (await client.get(f"{mesh.http}/v1/health")).status_code == 200

    async def test_prints_a_curl_line_that_can_be_pasted(self, tmp_path, state):
        async with openai_server(Reply(pieces=("token by", " token"))) as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state, "--no-hello") as mesh:
                said = await pasted(mesh.line("curl -N"))
        events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]
        texts = [event["text_delta"]["text"] for event in events if "text_delta" in event]
        assert texts == ["token by", " token"]

    async def test_prints_a_grpcurl_line_that_can_be_pasted(self, tmp_path, state):
        async with openai_server(Reply(pieces=("token by", " token"))) as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state, "--no-hello") as mesh:
                said = await pasted(mesh.line(" -plaintext"))
        assert '"text": "token by"' in said
        assert "RUN_STATE_COMPLETED" in said

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_leaves_nothing_behind(self, config, state, number):
        async with up(config, state, "--no-hello") as mesh:
            family = children(mesh)
            assert any("envoy" in process.name() for process in family)
            mesh.process.send_signal(number)
            assert await mesh.ended() == 0
            _, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert alive == []
        assert mesh.said[-1] == "stopped"

    async def test_takes_envoy_with_it_when_it_is_killed(self, config, state):
        async with up(config, state, "--no-hello") as mesh:
            family = children(mesh)
            mesh.process.kill()
            _, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert alive == []


class TestTheEnd:
    async def test_lets_a_run_finish(self, tmp_path, state):
        hold = asyncio.Event()
        async with openai_server(Reply(pieces=("done",), hold=hold)) as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state, "--no-envoy") as mesh:
                command = await start("run", "assistant", "hi", "--address", mesh.address)
                await model.asked.wait()
                mesh.process.send_signal(signal.SIGINT)
                await mesh.read_until("Ctrl-C again")
                hold.set()
                out, _ = await command.communicate()
                assert await mesh.ended() == 0
        assert (command.returncode, out) == (0, b"done\n")

    async def test_comes_at_once_when_it_is_asked_for_twice(self, tmp_path, state):
        async with openai_server(Reply(hold=asyncio.Event())) as model:
            config = write_config(tmp_path / "config", model.endpoint, "assistant")
            async with up(config, state, "--no-envoy") as mesh:
                command = await start("run", "assistant", "hi", "--address", mesh.address)
                await model.asked.wait()
                mesh.process.send_signal(signal.SIGINT)
                await mesh.read_until("Ctrl-C again")
                mesh.process.send_signal(signal.SIGINT)
                assert await mesh.ended() == failures.INTERRUPTED
                _, err = await command.communicate()
        assert command.returncode == failures.FAILED
        assert b"MESH_STOPPED" in err or b"went away" in err  # whether it heard of it or not


class TestTheLog:
    async def test_is_json_where_it_is_asked_for(self, config, state):
        async with up(config, state, "--no-envoy", *DEBUG) as mesh:
            await astromesh("agents", "list", "--address", mesh.address)
            mesh.process.terminate()
            await mesh.ended()
        lines = [json.loads(line) for line in mesh.err.decode().splitlines()]
        assert "astromesh.agents.v1.AgentService/ListAgents" in [x.get("method") for x in lines]

    async def test_takes_its_settings_from_the_environment_too(self, config, state):
        env = {"ASTROMESH_LOG_LEVEL": "error", "ASTROMESH_LOG_FORMAT": "json"}
        async with up(config, state, "--no-envoy", env=env) as mesh:
            await astromesh("agents", "list", "--address", mesh.address)
            mesh.process.terminate()
            await mesh.ended()
        assert mesh.err == b""

    async def test_has_the_trace_of_the_caller(self, config, state):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        metadata = (("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),)
        async with up(config, state, "--no-envoy", *DEBUG) as mesh:
            async with grpc.aio.insecure_channel(mesh.address) as channel:
                ask = channel.unary_unary("/astromesh.agents.v1.AgentService/ListAgents")
                await ask(b"", metadata=metadata)
            mesh.process.terminate()
            await mesh.ended()
        lines = [json.loads(line) for line in mesh.err.decode().splitlines()]
        assert trace in [line.get("trace_id") for line in lines]


async def pasted(line: str) -> str:
    """What the line prints in a shell, as a newcomer would run it."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(line), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, err.decode()
    return out.decode()
