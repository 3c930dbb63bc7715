"""`astromesh memory` against a mesh that runs."""

import asyncio
import json

import pytest
import pytest_asyncio
import yaml

from servers.cli import failures
from tests.mesh.program import invoked, up, write_config
from tests.running import agent
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cli(tmp_path_factory):
    """A mesh whose `helper` has had one run, in the session `s`."""
    folder = tmp_path_factory.mktemp("mesh")
    calls = Reply((), calls=[Call("calculator", '{"expression": "1/0"}')])
    async with openai_server(calls, Reply(("Hello",))) as model:
        config = write_config(folder / "config", model.endpoint)
        spec = {
            "tools": [{"name": "calculator"}],
            "memory": {"episodic": {}, "conversational": {}},
        }
        helper = agent("helper", model.endpoint, **spec)
        (config / "agents" / "helper.agent.yaml").write_text(yaml.safe_dump(helper))
        async with up(config, folder / "state", "--no-envoy") as mesh:

            async def cli(*words: str, input: str = ""):
                words = (*words, "--address", mesh.address)
                return await asyncio.to_thread(invoked, *words, input=input)

            await cli("run", "helper", "hi", "--session", "s")
            yield cli


async def listed(cli, *words: str) -> list[dict]:
    done = await cli("memory", *words, "--output", "json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


async def test_episodes_are_listed_and_filtered(cli):
    assert [each["type"] for each in await listed(cli, "episodes", "helper")] == [
        "EPISODE_TYPE_RUN",
        "EPISODE_TYPE_TOOL_CALL",
    ]
    failed = ("--type", "tool_call", "--outcome", "failed", "--since", "1h")
    assert len(await listed(cli, "episodes", "helper", *failed)) == 1
    assert await listed(cli, "episodes", "helper", "--session", "other") == []
    shown = (await cli("memory", "episodes", "helper")).out
    assert "tool_call calculator" in shown


@pytest.mark.parametrize(
    "words",
    [
        ("sessions", "helpr"),
        ("history", "helpr", "s"),
        ("episodes", "helpr"),
        ("recall", "helpr", "tea"),
        ("remember", "helpr", "tea"),
    ],
)
async def test_of_an_agent_that_is_not_there_nothing_is_shown_as_if_it_were(cli, words):
    done = await cli("memory", *words)
    assert (done.code, done.out) == (failures.FAILED, "")
    assert "there is no agent 'helpr'; did you mean 'helper'?" in done.err


async def test_feedback_is_given_on_a_run(cli):
    (run,) = await listed(cli, "episodes", "helper", "--type", "run")
    done = await cli("memory", "feedback", run["run_id"], "Too short.", "--rating", "0.5")
    assert (done.code, done.err) == (0, "")
    (said,) = await listed(cli, "episodes", "helper", "--type", "feedback")
    assert (said["rating"], said["text"], said["session"]) == (0.5, "Too short.", "s")


async def test_sessions_and_their_turns_are_shown(cli):
    (session,) = await listed(cli, "sessions", "helper")
    assert (session["session"], session["turns"]) == ("s", 2)
    turns = await listed(cli, "history", "helper", "s")
    assert [each["message"]["text"] for each in turns] == ["hi", "Hello"]


async def test_a_conversation_is_forgotten(cli):
    assert (await cli("memory", "clear", "helper", "s")).out == "2 turns forgotten\n"
    assert await listed(cli, "history", "helper", "s") == []


async def test_what_somebody_has_said_is_handed_out_and_erased_when_he_says_yes(cli):
    assert await listed(cli, "export", "ada") == []
    assert (await cli("memory", "erase", "ada", input="n\n")).code != 0
    done = await cli("memory", "erase", "ada", input="y\n")
    assert done.out.endswith("0 turns, 0 memories, 0 episodes forgotten\n")
    assert (await cli("memory", "erase", "ada", "--yes")).code == 0


async def test_what_makes_no_sense_is_a_failure_that_says_so(cli):
    done = await cli("memory", "feedback", "no-such-run", "x")
    assert done.code == failures.FAILED
    assert (await cli("memory", "episodes", "helper", "--since", "soon")).code == failures.FAILED


async def test_a_session_that_nothing_is_kept_of_is_told_so(cli):
    done = await cli("memory", "history", "helper", "other")
    assert (done.code, done.out) == (0, "")
    assert done.err == "nothing is kept of session 'other' of agent 'helper'\n"
    assert await listed(cli, "history", "helper", "other") == []


async def test_forgetting_says_what_may_be_named(cli):
    done = await cli("memory", "forget", "helper")
    assert done.code == 2
    assert "--session" in done.err
    assert "--all" in done.err


async def test_a_text_is_remembered_found_by_what_it_means_and_forgotten(cli):
    said = ("The shop opens at nine.", "--scope", "agent", "--meta", "kind=hours")
    assert (await cli("memory", "remember", "helper", *said)).code == 0
    (found,) = await listed(cli, "recall", "helper", "When does the shop open?")
    assert found["text"] == "The shop opens at nine."
    assert await listed(cli, "recall", "helper", "shop", "--where", "kind=other") == []
    assert (await cli("memory", "forget", "helper", "--all", input="n\n")).code != 0
    assert (await cli("memory", "forget", "helper", found["id"])).out == "1 memory forgotten\n"
