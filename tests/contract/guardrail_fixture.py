"""What the tests of guardrails share: an agent with rules, reached both ways."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.run_events import TextDelta
from servers.domain.runs import RunRequest
from tests.patience import PATIENCE
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
SECRET = "ada@example.com"
SPLIT = ("Write to a", "da@exa", "mple", ".com", " soon.")
ASK = RunRequest("helper", "hello?", session="s")
TOOLS = [{"name": "calculator"}]
REDACT = [{"type": "pii_detection"}]
BLOCK = [{"type": "pii_detection", "action": "block", "message": "No addresses, please."}]
SUM = Call("calculator", '{"expression": "5551234567 + 1"}')
WANTS, DONE = Reply((), calls=[SUM]), Reply(("Done",))
YES, NO = Reply(('{"answer": true}',)), Reply(('{"answer": false}',))
JUDGE = {"type": "model_guard", "question": "Is it rude?", "role": "judge", "message": "Be kind."}


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that says `replies`; gives the agents, the model, the mesh."""

    @contextlib.asynccontextmanager
    async def started(*replies, **spec):
        async with (
            openai_server(*replies) as model,
            mesh_of(tmp_path, agent("helper", model.endpoint, **spec)) as mesh,
            reached(mesh) as agents,
        ):
            yield agents, model, mesh

    return started


async def seen(events):
    async with asyncio.timeout(PATIENCE), aclosing(events):
        return [event.payload async for event in events]


def of(kind, payloads):
    return [payload for payload in payloads if isinstance(payload, kind)]


def texts(payloads):
    return "".join(payload.text for payload in of(TextDelta, payloads))


def asked(model, request=0):
    return model.requests[request].body["messages"][-1]["content"]


def judging_at(judge):
    choice = {"provider": "openai_compat", "endpoint": judge.endpoint, "model": "j"}
    return {"judge": {"candidates": [choice]}}
