"""Runtimes over a troubled store, for tests of what can go wrong with a run."""

import contextlib

import pytest

from tests.running import agent, write_agents
from tests.scripted.openai_server import openai_server
from tests.unit.agents.troubled import World


@pytest.fixture
def world(tmp_path):
    @contextlib.asynccontextmanager
    async def made(*replies, **spec):
        async with openai_server(*replies) as model:
            write_agents(tmp_path, agent("helper", model.endpoint, **spec))
            yield World(tmp_path, model)

    return made


@pytest.fixture
def alone(world):
    """One runtime that is not stopped."""

    @contextlib.asynccontextmanager
    async def made(*replies, limits=None, **spec):
        async with (
            world(*replies, **spec) as here,
            here.runtime(**(limits or {})) as (runtime, store),
        ):
            yield runtime, store, here.model

    return made
