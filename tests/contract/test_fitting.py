"""What models are shown of a conversation that is longer than their context window."""

import contextlib

import pytest

from servers.domain.run_events import Noticed
from servers.domain.runs import RunRequest
from servers.kernel.errors import InvalidInput
from tests.contract.pattern_fixture import ME, payloads, reached, says, told
from tests.running import agent, mesh_of
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

__all__ = ["reached"]
MEMORY = {"conversational": {"backend": "sqlite", "max_turns": 20}}


def narrow(endpoint, window, **parameters):
    primary = {"provider": "openai_compat", "endpoint": endpoint, "model": "m"}
    return {"primary": {**primary, "context_window": window, "parameters": parameters}}


@pytest.fixture
def window(reached, tmp_path):
    """Starts `helper` on a model with so many tokens of context."""

    @contextlib.asynccontextmanager
    async def started(tokens, *replies, parameters=None, **spec):
        async with openai_server(*replies) as model:
            policy = narrow(model.endpoint, tokens, **(parameters or {}))
            async with (
                mesh_of(tmp_path, agent("helper", model.endpoint, **spec, model=policy)) as mesh,
                reached(mesh) as agents,
            ):
                yield agents, model

    return started


def roles(asked):
    return [message["role"] for message in asked.body["messages"]]


def length(asked):
    """By the estimate that holds for a model whose tokenizer nobody has."""
    texts = [message["content"] or "" for message in asked.body["messages"]]
    return sum(map(len, texts)) // 4 + 3 * len(texts) + 3


class TestAHistory:
    async def test_is_shown_whole_where_it_fits(self, window):
        async with window(10_000, says("yes"), memory=MEMORY) as (agents, model):
            for number in range(5):
                await agents.run(ME, RunRequest("helper", f"{number} " + "x" * 400, session="s"))
        assert len(model.requests[-1].body["messages"]) == 9

    async def test_loses_its_oldest_turns_where_it_does_not(self, window):
        async with window(600, says("yes"), memory=MEMORY) as (agents, model):
            for number in range(5):
                ask = RunRequest("helper", f"{number} " + "x" * 400, session="s")
                events = await told(agents.stream(ME, ask))
        shown = model.requests[-1].body["messages"]
        assert roles(model.requests[-1]) == ["user", "assistant"] * (len(shown) // 2) + ["user"]
        assert (shown[-1]["content"][0], shown[0]["content"][0]) == ("4", "1")
        assert length(model.requests[-1]) <= 450
        (notice,) = payloads(events, Noticed)
        assert (notice.reason, "the oldest 2 messages" in notice.message) == ("CONTEXT_CUT", True)

    async def test_leaves_the_room_that_the_reply_may_take(self, window):
        parameters = {"max_tokens": 300}
        async with window(600, says("yes"), parameters=parameters, memory=MEMORY) as (
            agents,
            model,
        ):
            for number in range(5):
                await agents.run(ME, RunRequest("helper", f"{number} " + "x" * 400, session="s"))
        assert length(model.requests[-1]) <= 300


PROVIDERS = """
apiVersion: astromesh/v1
kind: ProviderConfig
metadata: {{name: providers}}
spec:
  providers:
    company: {{type: openai_compat, endpoint: "{}", models: [{{name: m, context_window: 1000}}]}}
"""


class TestAWindow:
    async def test_is_the_providers_where_the_agent_names_none(self, tmp_path, reached):
        async with openai_server(says("yes")) as model:
            (tmp_path / "config").mkdir()
            (tmp_path / "config" / "providers.yaml").write_text(PROVIDERS.format(model.endpoint))
            policy = {"primary": {"provider": "company"}}
            helper = agent("helper", model.endpoint, model=policy, memory=MEMORY)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                for _ in range(3):
                    await agents.run(ME, RunRequest("helper", "x" * 1600, session="s"))
        assert [len(each.body["messages"]) for each in model.requests] == [1, 1, 1]
        assert all(length(each) <= 750 for each in model.requests)


class TestAToolResult:
    async def test_is_cut_with_a_marker_that_says_how_much_is_missing(self, window):
        replies = Reply((), calls=[Call("long_text", "{}")]), says("done")
        tools = [{"name": "long_text", "function": "tests.contract.test_fitting:long_text"}]
        async with window(1000, *replies, tools=tools) as (agents, model):
            run = await agents.run(ME, RunRequest("helper", "read it"))
        result = model.requests[1].body["messages"][-1]["content"]
        assert (run.answer, result[:4], result[-12:]) == ("done", "word", " tokens cut]")
        assert length(model.requests[1]) <= 750


def long_text() -> str:
    """A long text."""
    return "word " * 2000


class TestAQuestion:
    async def test_that_is_too_long_by_itself_is_refused(self, window):
        async with window(300, says("yes")) as (agents, model):
            with pytest.raises(InvalidInput) as refused:
                await agents.run(ME, RunRequest("helper", "x" * 5000))
        assert (refused.value.reason, model.requests) == ("CONTEXT_TOO_LONG", [])
        assert refused.value.facts["model"] == "m"

    async def test_that_one_model_can_take_is_asked_of_that_one(self, tmp_path):
        async with openai_server(says("yes")) as model:
            policy = narrow(model.endpoint, 300)
            policy["fallback"] = [{**policy["primary"], "model": "wide", "context_window": 9000}]
            async with mesh_of(tmp_path, agent("helper", model.endpoint, model=policy)) as mesh:
                run = await mesh.agents.run(ME, RunRequest("helper", "x" * 5000))
        assert (run.answer, [each.body["model"] for each in model.requests]) == ("yes", ["wide"])
