"""The commands against a mesh that runs: what they print, and how they exit."""

import asyncio
import json
import signal
import sys

import pytest
import pytest_asyncio
import yaml

from servers.cli import failures
from tests.mesh.program import Done, Up, astromesh, invoked, start, up, write_config
from tests.patience import PROMPTLY
from tests.running import agent
from tests.scripted.http_server import Call, Reply, ScriptedServer, refuses
from tests.scripted.openai_server import openai_server
from tests.scripted.texts import Texts, score_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Started:
    """A mesh without Envoy, and the model server behind it."""

    def __init__(self, mesh: Up, model: ScriptedServer) -> None:
        self.mesh, self.model = mesh, model

    async def cli(self, *words: str, input: str = "") -> Done:
        words = (*words, "--address", self.mesh.address)
        return await asyncio.to_thread(invoked, *words, input=input)

    def answers(self, *replies: Reply) -> None:
        self.model.replies[:] = replies
        self.model.requests.clear()
        self.model.asked.clear()
        self.model.left.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    async with openai_server() as model:
        config = write_config(folder / "config", model.endpoint, "assistant")
        async with up(config, folder / "state", "--no-envoy") as mesh:
            yield Started(mesh, model)


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(running):
    running.answers(Reply(pieces=("Hello", " you")))
    return running


class TestRun:
    async def test_prints_the_answer_and_nothing_else(self, mesh):
        assert await mesh.cli("run", "assistant", "hi") == Done(0, "Hello you\n", "")

    async def test_tells_of_tools_apart_from_the_answer(self, mesh):
        call = Call("calculator", '{"expression": "6*7"}')
        mesh.answers(Reply(pieces=(), calls=(call,)), Reply(pieces=("42",)))
        done = await mesh.cli("run", "assistant", "6*7?")
        assert (done.code, done.out) == (0, "42\n")
        assert "calculator" in done.err

    async def test_prints_events_that_programs_can_read(self, mesh):
        done = await mesh.cli("run", "assistant", "hi", "--json")
        events = [json.loads(line) for line in done.out.splitlines()]
        assert events[-1]["completed"]["answer"] == "Hello you"
        assert [event["sequence"] for event in events] == sorted({e["sequence"] for e in events})

    async def test_reads_a_question_from_standard_input(self, mesh):
        await mesh.cli("run", "assistant", "-", input="from a pipe")
        assert mesh.model.requests[-1].body["messages"][-1]["content"] == "from a pipe"

    async def test_goes_on_with_a_session(self, mesh):
        await mesh.cli("run", "assistant", "first", "--session", "s1")
        await mesh.cli("run", "assistant", "second", "--session", "s1")
        said = [message["content"] for message in mesh.model.requests[-1].body["messages"]]
        assert said[-3:] == ["first", "Hello you", "second"]

    async def test_of_an_unknown_agent_names_the_near_one(self, mesh):
        done = await mesh.cli("run", "asistant", "hi")
        assert done.code == failures.FAILED
        assert done.err.startswith("error: NOT_FOUND")
        assert "assistant" in done.err

    async def test_of_a_broken_model_says_why(self, mesh):
        mesh.answers(refuses(400, "no such model"))
        done = await mesh.cli("run", "assistant", "hi")
        assert done.code == failures.FAILED
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1

    async def test_does_not_let_the_model_control_the_terminal(self, mesh):
        mesh.answers(Reply(pieces=("a\x1b[2Jb",)))
        assert (await mesh.cli("run", "assistant", "hi")).out == "a[2Jb\n"

    async def test_says_which_guardrail_ended_it(self, mesh, tmp_path):
        rule = {"type": "topic_filter", "topics": ["politics"], "message": "Not here."}
        manifest = agent("polite", mesh.model.endpoint, guardrails={"input": [rule]})
        (tmp_path / "polite.yaml").write_text(yaml.safe_dump(manifest))
        await mesh.cli("agents", "apply", "-f", str(tmp_path / "polite.yaml"))
        done = await mesh.cli("run", "polite", "About politics")
        assert done == Done(
            failures.FAILED, "", "error: the guardrail topic_filter ended the run: Not here.\n"
        )
        listed = await mesh.cli("runs", "list", "--agent", "polite", "-o", "json")
        (run,) = json.loads(listed.out)
        shown = (await mesh.cli("runs", "events", run["run_id"])).out
        assert "topic_filter block input 1" in shown
        await mesh.cli("agents", "delete", "polite")

    async def test_ends_at_its_time_limit(self, mesh):
        mesh.answers(Reply(hold=asyncio.Event()))
        done = await mesh.cli("run", "assistant", "hi", "--timeout", "0.5")
        assert done.code == failures.FAILED

    async def test_is_cancelled_with_its_command(self, mesh):
        mesh.answers(Reply(hold=asyncio.Event()))
        command = await start("run", "assistant", "hi", "--address", mesh.mesh.address)
        await mesh.model.asked.wait()
        command.send_signal(signal.SIGINT)
        await command.communicate()
        assert command.returncode == failures.INTERRUPTED
        await asyncio.wait_for(mesh.model.left.wait(), PROMPTLY)


class TestChat:
    async def test_answers_every_line_in_one_session(self, mesh):
        done = await mesh.cli("chat", "assistant", input="first\n\nsecond\n")
        assert (done.code, done.out) == (0, "Hello you\nHello you\n")
        said = [message["content"] for message in mesh.model.requests[-1].body["messages"]]
        assert said[-3:] == ["first", "Hello you", "second"]

    async def test_goes_on_after_a_question_that_failed(self, mesh):
        mesh.answers(refuses(400, "too rude"), Reply(pieces=("fine",)))
        done = await mesh.cli("chat", "assistant", input="first\nsecond\n")
        assert done.out == "fine\n"
        assert "error: " in done.err


NEW = """
apiVersion: astromesh/v1
kind: Agent
metadata: {name: helper, version: "2"}
spec:
  model: {primary: {provider: scripted, model: m, api_key: "${HELPER_KEY:-hunter2}"}}
  prompts: {system: Help.}
"""


class TestAgents:
    async def test_are_listed(self, mesh):
        done = await mesh.cli("agents", "list")
        titles, row = done.out.splitlines()[:2]
        assert titles.split() == ["NAME", "VERSION", "READY", "SOURCE", "REASON"]
        assert row.split()[:3] == ["assistant", "1", "yes"]

    async def test_are_applied_shown_changed_and_deleted(self, mesh, tmp_path):
        file = tmp_path / "helper.yaml"
        file.write_text(NEW)
        assert (await mesh.cli("agents", "apply", "-f", str(file))).out == "applied helper 2\n"
        shown = (await mesh.cli("agents", "get", "helper")).out
        assert yaml.safe_load(shown)["spec"]["prompts"]["system"] == "Help."
        file.write_text(shown.replace("Help.", "Help more."))
        assert (await mesh.cli("agents", "apply", "-f", str(file))).code == 0
        shown = (await mesh.cli("agents", "get", "helper", "-o", "json")).out
        assert json.loads(shown)["spec"]["prompts"]["system"] == "Help more."
        assert (await mesh.cli("agents", "delete", "helper")).out == "deleted helper\n"
        assert (await mesh.cli("agents", "get", "helper")).code == failures.FAILED

    async def test_are_shown_without_their_secrets(self, mesh, tmp_path):
        (tmp_path / "a.yaml").write_text(NEW)
        await mesh.cli("agents", "apply", "-f", str(tmp_path / "a.yaml"))
        shown = (await mesh.cli("agents", "get", "helper")).out
        await mesh.cli("agents", "delete", "helper")
        assert "hunter2" not in shown

    async def test_are_only_checked_by_a_dry_run(self, mesh):
        done = await mesh.cli("agents", "apply", "--dry-run", "-f", "-", input=NEW)
        assert done.out == "valid helper 2\n"
        assert (await mesh.cli("agents", "get", "helper")).code == failures.FAILED

    async def test_that_are_faulty_name_file_line_and_key(self, mesh, tmp_path):
        file = tmp_path / "bad.yaml"
        file.write_text(NEW.replace("prompts", "promts"))
        done = await mesh.cli("agents", "apply", "-f", str(file))
        assert done.code == failures.FAILED
        assert f"{file}:7: spec.promts" in done.err
        assert "did you mean 'prompts'?" in done.err

    async def test_of_an_old_copy_are_not_overwritten(self, mesh, tmp_path):
        file = tmp_path / "helper.yaml"
        file.write_text(NEW)
        await mesh.cli("agents", "apply", "-f", str(file))
        old = (await mesh.cli("agents", "get", "helper")).out
        file.write_text(NEW.replace("Help.", "Help more."))
        await mesh.cli("agents", "apply", "-f", str(file))
        file.write_text(old)
        done = await mesh.cli("agents", "apply", "-f", str(file))
        await mesh.cli("agents", "delete", "helper")
        assert done.err.startswith("error: ABORTED ETAG_MISMATCH")


class TestRuns:
    async def run(self, mesh: Started) -> str:
        done = await mesh.cli("run", "assistant", "hi", "--json")
        return json.loads(done.out.splitlines()[-1])["run_id"]

    async def test_are_listed_newest_first(self, mesh):
        run = await self.run(mesh)
        listed = json.loads((await mesh.cli("runs", "list", "--limit", "1", "-o", "json")).out)
        assert [each["run_id"] for each in listed] == [run]

    async def test_are_shown(self, mesh):
        shown = (await mesh.cli("runs", "get", await self.run(mesh))).out
        assert "state        completed" in shown
        assert "answer       Hello you" in shown

    async def test_tell_what_they_did(self, mesh):
        told = (await mesh.cli("runs", "events", await self.run(mesh))).out.splitlines()
        assert "completed" in told[-1]

    async def test_tell_the_rest_to_those_who_know_the_start(self, mesh):
        run = await self.run(mesh)
        told = (await mesh.cli("runs", "events", run, "-o", "json")).out.splitlines()
        last_but_one = str(json.loads(told[-2])["sequence"])
        rest = (await mesh.cli("runs", "events", run, "--after", last_but_one, "-o", "json")).out
        assert rest.splitlines() == told[-1:]

    async def test_that_work_are_cancelled(self, mesh):
        mesh.answers(Reply(hold=asyncio.Event()))
        command = await start("run", "assistant", "hi", "--json", "--address", mesh.mesh.address)
        first = json.loads(await command.stdout.readline())
        await mesh.model.asked.wait()
        done = await mesh.cli("runs", "cancel", first["run_id"], "--reason", "enough")
        await command.communicate()
        assert "state        cancelled" in done.out
        assert command.returncode == failures.FAILED

    async def test_that_do_not_exist_are_not_found(self, mesh):
        done = await mesh.cli("runs", "get", "nothing")
        assert done.code == failures.FAILED
        assert done.err.startswith("error: NOT_FOUND")


class TestTools:
    async def test_are_listed(self, mesh):
        listed = yaml.safe_load((await mesh.cli("tools", "list", "-o", "yaml")).out)
        assert "calculator" in [tool["name"] for tool in listed]

    async def test_are_called(self, mesh):
        done = await mesh.cli("tools", "call", "calculator", '{"expression": "6*7"}')
        assert (done.code, done.out) == (0, "42\n")

    async def test_that_fail_give_a_failure(self, mesh):
        done = await mesh.cli("tools", "call", "calculator", '{"expression": "6/"}')
        assert done.code == failures.FAILED
        assert "outcome" in done.out

    async def test_that_do_not_exist_give_a_failure(self, mesh):
        done = await mesh.cli("tools", "call", "calculater")
        assert done.code == failures.FAILED
        assert "no tool is named 'calculater'" in done.out + done.err


async def test_models_are_listed(mesh):
    listed = json.loads((await mesh.cli("models", "-o", "json")).out)
    assert ("scripted", "m") in [(model["provider"], model["model"]) for model in listed]


class TestTexts:
    ASK = ("--provider", "scripted", "--model", "m")

    async def test_are_shown_as_vectors(self, mesh):
        mesh.answers(Texts())
        done = await mesh.cli("embed", "a cat", "a dog", *self.ASK)
        _, first, _ = done.out.splitlines()
        assert (done.code, first.split()[0]) == (0, "8")

    async def test_have_all_their_numbers_where_programs_read_them(self, mesh):
        mesh.answers(Texts())
        done = await mesh.cli("embed", "-", *self.ASK, "-o", "json", input="a cat\n\na dog\n")
        answer = json.loads(done.out)
        assert [len(each["values"]) for each in answer["embeddings"]] == [8, 8]
        assert answer["usage"]["prompt_tokens"] == len("a cat" + "a dog")

    async def test_are_ordered_by_a_query(self, mesh):
        model = ("--provider", "ranks", "--top-n", "1")
        mesh.answers(Texts())
        done = await mesh.cli("rerank", "where?", "here", "there", *model)
        best = max(("here", "there"), key=lambda each: score_for("where?", each))
        assert done.out.splitlines()[1].split() == [f"{score_for('where?', best):.4f}", best]

    async def test_of_a_model_of_nobody_give_a_failure(self, mesh):
        done = await mesh.cli("embed", "a cat", "--model", "m")
        assert done.code == failures.FAILED
        assert "--provider" in done.out + done.err


class TestProviders:
    async def test_are_listed(self, mesh):
        done = await mesh.cli("providers", "list")
        assert done.code == 0
        assert "scripted" in done.out

    async def test_are_left_alone_and_asked_again_by_hand(self, mesh):
        opened = await mesh.cli("providers", "open", "scripted", "--model", "m")
        assert "open by hand" in opened.out
        closed = await mesh.cli("providers", "close", "scripted")
        assert "closed" in closed.out

    async def test_that_do_not_exist_give_a_failure(self, mesh):
        done = await mesh.cli("providers", "open", "nobody")
        assert done.code == failures.FAILED
        assert "no provider is named 'nobody'" in done.out + done.err


async def test_a_service_can_be_asked_by_its_environment(mesh):
    env = {"ASTROMESH_ADDRESS": mesh.mesh.address}
    assert (await astromesh("agents", "list", env=env)).code == 0


class TestValidate:
    async def test_accepts_what_the_mesh_runs_with(self):
        assert (await astromesh("validate", "config")).code == 0

    async def test_names_file_line_and_key_of_a_fault(self, tmp_path):
        file = tmp_path / "bad.agent.yaml"
        file.write_text(NEW.replace("prompts", "promts"))
        done = await astromesh("validate", str(file))
        assert done.code == failures.FAILED
        assert "bad.agent.yaml:7: spec.promts" in done.err

    async def test_names_every_faulty_agent_of_a_folder(self, tmp_path):
        config = write_config(tmp_path / "config", "http://127.0.0.1:1", "good")
        for name in ("one", "two"):
            text = NEW.replace("promts", "prompts").replace("scripted", "nobody")
            (config / "agents" / f"{name}.agent.yaml").write_text(text.replace("helper", name))
        done = await astromesh("validate", str(config))
        assert done.code == failures.FAILED
        assert done.err.count("'nobody'") == 2

    async def test_refuses_a_kind_it_does_not_know(self, tmp_path):
        (tmp_path / "x.yaml").write_text("apiVersion: astromesh/v1\nkind: Agnet\n")
        done = await astromesh("validate", str(tmp_path / "x.yaml"))
        assert "did you mean 'Agent'?" in done.err


async def test_doctor_finds_a_port_that_is_taken(mesh):
    port = mesh.mesh.address.rpartition(":")[2]
    done = await astromesh("doctor", "--grpc-port", port)
    assert done.code == failures.FAILED
    assert f"{port}: Address already in use" in done.out


async def test_the_module_serves_some_services_alone(tmp_path):
    config = write_config(tmp_path / "config", "http://127.0.0.1:1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "servers", "tools", "--grpc-port", "0"),
        *("--config", str(config), "--state", str(tmp_path / "state")),
        stdout=asyncio.subprocess.PIPE,
    )
    mesh = Up(process)
    await mesh.read_until("Ctrl-C stops")
    tools = await astromesh("tools", "list", "--address", mesh.address)
    agents = await astromesh("agents", "list", "--address", mesh.address)
    process.terminate()
    assert await mesh.ended() == 0
    assert tools.code == 0
    assert "UNIMPLEMENTED" in agents.err
