"""Runs whose agent changes while they wait, checked in process and over the wire alike."""

import contextlib
from copy import deepcopy

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import Decision, RunRequest, RunState, Verdict
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
ASK = RunRequest("helper", "hello?")
APPROVE = Decision("", Verdict.APPROVE)
WANTS = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
CAREFUL = [{"name": "calculator", "requires_approval": True}]


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def waiting(request, tmp_path):
    """A run of `helper`, declared through the API, that waits for an approval."""

    @contextlib.asynccontextmanager
    async def started(**choice):
        async with openai_server(WANTS, Reply(("It is 5",))) as model:
            helper = agent(
                "helper",
                model.endpoint,
                tools=CAREFUL,
                prompts={"system": "You are the first."},
            )
            helper["api_version"] = helper.pop("apiVersion")
            helper["spec"]["model"]["primary"].update(choice)
            async with mesh_of(tmp_path) as mesh, request.param(mesh) as agents:
                await agents.create(ME, helper)
                run = await agents.run(ME, ASK)
                assert run.state is RunState.WAITING_APPROVAL
                yield agents, helper, run, model

    return started


def changed(manifest):
    other = deepcopy(manifest)
    other["metadata"]["version"] = "2.0.0"
    other["spec"]["prompts"] = {"system": "You are the second."}
    other["spec"]["tools"] = []
    return other


def system_prompt(model):
    return model.requests[-1].body["messages"][0]["content"]


async def test_a_run_finishes_on_the_declaration_it_began_with(waiting):
    async with waiting() as (agents, helper, run, model):
        await agents.update(ME, changed(helper))
        ended = await agents.resume(ME, run.id, APPROVE, wait=True)
        assert (ended.answer, ended.agent_version) == ("It is 5", "1.0.0")
        assert system_prompt(model) == "You are the first."


async def test_a_run_that_begins_later_gets_the_new_one(waiting):
    async with waiting() as (agents, helper, _, model):
        await agents.update(ME, changed(helper))
        await agents.run(ME, ASK)
        assert system_prompt(model) == "You are the second."


async def test_a_run_finishes_although_its_agent_is_gone(waiting):
    async with waiting() as (agents, _, run, model):
        await agents.delete(ME, "helper")
        ended = await agents.resume(ME, run.id, APPROVE, wait=True)
        assert ended.answer == "It is 5"
        assert system_prompt(model) == "You are the first."


async def test_a_key_of_its_own_is_taken_from_the_agent_as_it_is_now(waiting):
    async with waiting(api_key="sk-secret") as (agents, helper, run, model):
        await agents.update(ME, changed(helper))
        await agents.resume(ME, run.id, APPROVE, wait=True)
        assert model.requests[-1].headers["authorization"] == "Bearer sk-secret"


async def test_a_key_that_is_gone_with_its_agent_ends_the_run_with_the_reason(waiting):
    async with waiting(api_key="sk-secret") as (agents, _, run, _):
        await agents.delete(ME, "helper")
        with pytest.raises(Exception, match="which is not kept") as refused:
            await agents.resume(ME, run.id, APPROVE, wait=True)
        assert refused.value.reason == "AGENT_CHANGED"
        assert (await agents.get_run(ME, run.id)).state is RunState.WAITING_APPROVAL
