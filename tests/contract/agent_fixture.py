"""What the tests of runs share: an agent on a model that says what it is told."""

import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import RunRequest
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
ASK = RunRequest("helper", "hello?")


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that says `replies`; gives the agents and the model server."""

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
    async with aclosing(events):
        return [event async for event in events]
