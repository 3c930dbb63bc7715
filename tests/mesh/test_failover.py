"""A provider dies under load and comes back: callers don't notice, ListProviders tells it all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest
import yaml
from astromesh.agents.v1 import agent_service_pb2, run_pb2
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.router.v1 import provider_pb2 as pb
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc

from tests.mesh.mesh_process import MeshProcess, mesh_process
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

AGENTS, CHATS = 6, 6  # callers of RunAgent over gRPC, and of Complete over REST
PAUSE = 3  # seconds that the breaker stays open
CANDIDATES = [{"provider": name, "model": "m"} for name in ("primary", "fallback")]
CHAT = {"candidates": CANDIDATES, "messages": [{"role": "ROLE_USER", "text": "hi"}]}

Ask = Callable[[], Awaitable[str]]  # says who answered, or what went wrong


class Gate(asyncio.Event):
    """Holds a server's answers back while it is shut, and knows how many it holds."""

    held = 0

    async def wait(self) -> bool:
        self.held += 1
        try:
            return await super().wait()
        finally:
            self.held -= 1


@dataclass
class Load:
    """Callers that ask again and again until they are told to stop."""

    answers: list[str] = field(default_factory=list)  # by whom
    failures: list[str] = field(default_factory=list)
    over: bool = False

    async def keep(self, ask: Ask) -> None:
        while not self.over:
            answer = await ask()
            (self.answers if answer in ("primary", "fallback") else self.failures).append(answer)

    async def goes_on(self) -> None:
        """Wait until each caller could have been answered twice."""
        enough = len(self.answers) + 2 * (AGENTS + CHATS)
        await until(lambda: len(self.answers) >= enough)


@dataclass
class Watch:
    """The states of the primary's breaker as ListProviders tells them, each change once."""

    router: router_grpc.RouterServiceStub
    seen: list[str] = field(default_factory=list)

    async def keep(self) -> None:
        while True:
            listed = await self.router.ListProviders(pb.ListProvidersRequest())
            (primary,) = (each for each in listed.providers if each.name == "primary")
            for breaker in primary.breakers:
                state = pb.BreakerState.Name(breaker.state).removeprefix("BREAKER_STATE_")
                if self.seen[-1:] != [state]:
                    self.seen.append(state)
            await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # it is another process that changes it
            await asyncio.sleep(0.01)


def write_config(folder: Path, **endpoints: str) -> None:
    providers = {
        name: {"type": "openai_compat", "endpoint": endpoint, "models": ["m"]}
        for name, endpoint in endpoints.items()
    }
    breaker = {"failure_threshold": 3, "recovery_timeout": PAUSE}
    spec = {"providers": providers, "routing": {"circuit_breaker": breaker}}
    model = {"primary": CANDIDATES[0], "fallback": CANDIDATES[1]}
    (folder / "config" / "agents").mkdir(parents=True)
    _write(folder / "config" / "providers.yaml", "ProviderConfig", "providers", spec)
    _write(folder / "config" / "agents" / "a.agent.yaml", "Agent", "helper", {"model": model})


def _write(path: Path, kind: str, name: str, spec: dict) -> None:
    manifest = {"apiVersion": "astromesh/v1", "kind": kind, "metadata": {"name": name}}
    path.write_text(yaml.safe_dump(manifest | {"spec": spec}))


@contextmanager
def kept(port: int) -> Iterator[None]:
    """A port where connections are refused, and which nobody else gets."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        yield


@asynccontextmanager
async def under_load(mesh: MeshProcess) -> AsyncIterator[tuple[Load, Watch]]:
    load = Load()
    async with (
        grpc.aio.insecure_channel(mesh.address) as channel,
        httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False) as http,
        asyncio.TaskGroup() as tasks,
    ):
        watch = Watch(router_grpc.RouterServiceStub(channel))
        watching = tasks.create_task(watch.keep())
        for ask in [running(channel)] * AGENTS + [chatting(http)] * CHATS:
            tasks.create_task(load.keep(ask))
        yield load, watch
        load.over = True
        watching.cancel()


def running(channel: grpc.aio.Channel) -> Ask:
    agents = agents_grpc.AgentServiceStub(channel)

    async def ask() -> str:
        run = await agents.RunAgent(agent_service_pb2.RunAgentRequest(agent="helper", query="hi"))
        return run.answer if run.state == run_pb2.RUN_STATE_COMPLETED else str(run)

    return ask


def chatting(http: httpx.AsyncClient) -> Ask:
    async def ask() -> str:
        answer = await http.post("/v1/router:complete", json=CHAT)
        return answer.json()["message"]["text"] if answer.is_success else answer.text

    return ask


@pytest.mark.envoy
@pytest.mark.slow
async def test_a_provider_dies_and_comes_back_while_no_request_fails(tmp_path):
    alive, probed = Gate(), Gate()
    async with AsyncExitStack() as rest, AsyncExitStack() as first_life:
        primary = await first_life.enter_async_context(
            openai_server(Reply(("primary",), hold=alive), port=free_port())
        )
        fallback = await rest.enter_async_context(openai_server(Reply(("fallback",))))
        write_config(tmp_path, primary=primary.endpoint, fallback=fallback.endpoint)
        mesh = rest.enter_context(mesh_process(tmp_path))
        alive.set()
        load, watch = await rest.enter_async_context(under_load(mesh))
        await load.goes_on()
        assert watch.seen == ["CLOSED"]

        alive.clear()
        await until(lambda: alive.held == AGENTS + CHATS)  # it dies with all of them waiting
        await first_life.aclose()
        with kept(primary.port):
            await until(lambda: watch.seen[-1] == "OPEN")
            await load.goes_on()
        revived = await rest.enter_async_context(
            openai_server(Reply(("primary",), hold=probed), port=primary.port)
        )
        await until(lambda: watch.seen[-1] == "HALF_OPEN" and probed.held == 1)
        await load.goes_on()
        assert len(revived.requests) == 1

        probed.set()
        await until(lambda: watch.seen[-1] == "CLOSED")
        await load.goes_on()
        await until(lambda: load.answers[-1] == "primary")
    assert load.failures == []
    assert (watch.seen[:2], watch.seen[-2:]) == (["CLOSED", "OPEN"], ["HALF_OPEN", "CLOSED"])
    assert set(watch.seen[1:-1]) == {"OPEN", "HALF_OPEN"}  # again and again while it was away
