"""What is told of the ends of runs, to a receiver that listens on a real socket."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

import pytest
import yaml
from aiohttp import web
from standardwebhooks import Webhook

from servers.domain.caller import Caller
from servers.domain.runs import RunRequest, RunState
from servers.kernel.errors import AlreadyExists, Denied, InvalidInput, NotReady
from tests.patience import PATIENCE
from tests.running import agent, in_process, mesh_of, over_the_wire, write_agents
from tests.scripted.http_server import Reply, Then, refuses
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
SECRET = "whsec_" + "c2VjcmV0" * 4
SOON = {"retry_after": [0.01, 0.01]}


@dataclass
class Receiver:
    url: str
    answers: list[int]  # statuses, in order; the last one for ever
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        self.more.set()
        return web.Response(status=self.answers[min(len(self.heard), len(self.answers)) - 1])

    async def hears(self, times: int) -> list[tuple[dict[str, str], bytes]]:
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < times:
                self.more.clear()
                await self.more.wait()
        return self.heard


@pytest.fixture
async def receiver():
    there = Receiver("", [200])
    app = web.Application()
    app.router.add_post("/hook", there.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    there.url = f"http://127.0.0.1:{port}/hook"
    yield there
    await runner.cleanup()


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def world(request, tmp_path):
    """Starts `helper`, with `hooks` in `spec.webhooks`."""

    @contextlib.asynccontextmanager
    async def started(*replies, hooks=None, **spec):
        settings = {"secret": SECRET, "allowed_hosts": ["127.0.0.1"], **(hooks or {})}
        async with openai_server(*replies) as model:
            helper = agent("helper", model.endpoint, **spec)
            runtime = {
                "apiVersion": "astromesh/v1",
                "kind": "RuntimeConfig",
                "metadata": {"name": "runtime"},
                "spec": {"webhooks": settings},
            }
            folder = write_agents(tmp_path, helper)
            (folder / "runtime.yaml").write_text(yaml.safe_dump(runtime))
            async with mesh_of(tmp_path, helper) as mesh, request.param(mesh) as agents:
                yield agents

    return started


def asking(url, **more):
    return RunRequest("helper", "hello?", webhook=url, **more)


async def test_a_receiver_hears_of_the_end_with_the_whole_run(world, receiver):
    async with world(Reply(("Good day",))) as agents:
        run = await agents.create_run(ME, asking(receiver.url))
        ((_, body),) = await receiver.hears(1)
    event = json.loads(body)
    assert event["type"] == "run.ended"
    assert event["data"]["run_id"] == run.id
    assert (event["data"]["state"], event["data"]["answer"]) == ("RUN_STATE_COMPLETED", "Good day")


async def test_a_run_that_failed_is_told_too(world, receiver):
    async with world(refuses(500)) as agents:
        await agents.create_run(ME, asking(receiver.url))
        ((_, body),) = await receiver.hears(1)
    assert json.loads(body)["data"]["error"]["code"] == 14


async def test_a_receiver_can_tell_who_sends(world, receiver):
    async with world() as agents:
        run = await agents.create_run(ME, asking(receiver.url))
        ((headers, body),) = await receiver.hears(1)
    Webhook(SECRET).verify(body, headers)
    assert headers["webhook-id"] == run.id


async def test_a_receiver_that_has_trouble_is_told_again(world, receiver):
    receiver.answers = [500, 302, 200]
    async with world(hooks=SOON) as agents:
        await agents.create_run(ME, asking(receiver.url))
        told = await receiver.hears(3)
        await asyncio.sleep(1.2)
    assert len({headers["webhook-id"] for headers, _ in told}) == 1
    assert len(receiver.heard) == 3


async def test_a_receiver_that_is_gone_is_left_alone(world, receiver):
    receiver.answers = [410]
    async with world(hooks=SOON) as agents:
        await agents.create_run(ME, asking(receiver.url))
        await receiver.hears(1)
        await asyncio.sleep(1.2)
    assert len(receiver.heard) == 1


async def test_what_could_not_be_told_is_told_by_the_next_process(world, receiver):
    receiver.answers = [503, 200]
    later = {"retry_after": [3.0]}
    async with world(hooks=later) as agents:
        run = await agents.create_run(ME, asking(receiver.url))
        await receiver.hears(1)
    async with world(hooks=later) as agents:
        (_, (headers, _)) = await receiver.hears(2)
    assert headers["webhook-id"] == run.id


async def test_without_a_secret_a_webhook_is_refused(world, receiver):
    async with world(hooks={"secret": ""}) as agents:
        with pytest.raises(NotReady) as refused:
            await agents.create_run(ME, asking(receiver.url))
    assert refused.value.reason == "WEBHOOKS_OFF"


async def test_plain_http_is_for_hosts_that_are_allowed(world):
    async with world() as agents:
        with pytest.raises(Denied) as refused:
            await agents.create_run(ME, asking("http://example.com/hook"))
    assert refused.value.reason == "ADDRESS_DENIED"


@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "https://u:p@example.com", "https://", "x" * 3000]
)
async def test_an_address_that_is_none_is_named(world, url):
    async with world() as agents:
        with pytest.raises(InvalidInput) as refused:
            await agents.create_run(ME, asking(url))
    assert [each.field for each in refused.value.violations] == ["webhook"]


async def test_another_webhook_is_another_request(world, receiver):
    async with world() as agents:
        await agents.create_run(ME, asking(receiver.url, request_id="r-1"))
        with pytest.raises(AlreadyExists):
            await agents.create_run(ME, asking(receiver.url + "?2", request_id="r-1"))


async def test_a_run_that_is_cancelled_is_told(world, receiver):
    async with world(Reply(("Once",), then=Then.HANG)) as agents:
        run = await agents.create_run(ME, asking(receiver.url))
        ended = await agents.cancel(ME, run.id)
        ((_, body),) = await receiver.hears(1)
    assert ended.state is RunState.CANCELLED
    assert json.loads(body)["data"]["state"] == "RUN_STATE_CANCELLED"
