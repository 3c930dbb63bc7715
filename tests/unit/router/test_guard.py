"""Which keys a stranger may have the router use."""

from contextlib import aclosing

import pytest

from servers.domain.chat import ChatRequest, ModelRef, Role, says
from servers.kernel.errors import Denied
from servers.router.wrappers.guard import GuardedRouter
from tests.contract.router_fixture import in_process, router
from tests.scripted.openai_server import openai_server

ENV = {"OUR_KEY": "k", "DATABASE_PASSWORD": "hidden"}


def named(*variables):
    """What files name."""
    return lambda: variables


def asking(endpoint, variable):
    ref = ModelRef("openai_compat", "m", endpoint=endpoint, api_key_env=variable)
    return ChatRequest((says(Role.USER, "hi"),), (ref,))


async def test_a_variable_that_the_configuration_names_is_used(tmp_path):
    async with openai_server() as model, router(in_process, tmp_path, env=ENV) as behind:
        await GuardedRouter(behind, named("OUR_KEY")).complete(asking(model.endpoint, "OUR_KEY"))
    assert model.requests[0].headers["authorization"] == "Bearer k"


async def test_any_other_variable_stays_here(tmp_path):
    async with openai_server() as model, router(in_process, tmp_path, env=ENV) as behind:
        guarded = GuardedRouter(behind, named("OUR_KEY"))
        with pytest.raises(Denied) as refused:
            await guarded.complete(asking(model.endpoint, "DATABASE_PASSWORD"))
        async with aclosing(guarded.stream(asking(model.endpoint, "DATABASE_PASSWORD"))) as steps:
            with pytest.raises(Denied):
                await anext(steps)
    assert refused.value.reason == "VARIABLE_DENIED"
    assert model.requests == []


async def test_a_variable_that_a_file_names_later_is_used_then(tmp_path):
    names = set()
    async with openai_server() as model, router(in_process, tmp_path, env=ENV) as behind:
        guarded = GuardedRouter(behind, lambda: names)
        with pytest.raises(Denied):
            await guarded.complete(asking(model.endpoint, "OUR_KEY"))
        names.add("OUR_KEY")
        await guarded.complete(asking(model.endpoint, "OUR_KEY"))
    assert model.requests[0].headers["authorization"] == "Bearer k"
