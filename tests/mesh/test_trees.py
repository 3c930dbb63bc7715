"""Sub-agents, approvals and what they look like, over REST and on the command line."""

import asyncio
import json
from xml.etree import ElementTree

import pytest
import yaml

from servers.cli import failures
from tests.mesh.program import invoked
from tests.scripted.http_server import Call, Reply

SUM = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
PAYS = [{"name": "calculator", "requires_approval": True, "approval": {"editable": True}}]


@pytest.fixture
def cli(started):
    async def command(*words):
        words = (*words, "--address", started.address)
        return await asyncio.to_thread(invoked, *words)

    return command


@pytest.fixture
async def tree(an_agent):
    """Declares an agent that asks another one, and gives both."""

    async def declared(*works, **spec):
        worker = await an_agent(*works, **spec)
        asks = Reply((), calls=[Call(worker.name, '{"query": "find out"}')])
        tools = [{"name": worker.name, "type": "agent"}]
        return await an_agent(asks, Reply(("All is well",)), tools=tools), worker

    return declared


async def posted(http, path, **body):
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def got(http, path, **parameters):
    answer = await http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def waiting(http, tree):
    """A parent and its sub-agent's run, which waits for an approval."""
    lead, _ = await tree(SUM, Reply(("It is 5",)), tools=PAYS)
    run = await posted(http, f"{lead.path}:run", query="hi")
    (child,) = (await got(http, "/v1/runs", parent_run_id=run["run_id"]))["runs"]
    return run, child


class TestOverRest:
    async def test_a_sub_agents_answer_is_its_parents(self, http, tree):
        lead, worker = await tree(Reply(("Nothing",)))
        run = await posted(http, f"{lead.path}:run", query="hi")
        assert run["answer"] == "All is well"
        (child,) = (await got(http, "/v1/runs", parent_run_id=run["run_id"]))["runs"]
        assert (child["agent"], child["root_run_id"]) == (worker.name, run["run_id"])

    async def test_an_approval_of_a_sub_agent_lets_its_parent_end(self, http, tree):
        run, child = await waiting(http, tree)
        assert run["state"] == "RUN_STATE_WAITING_RUN"
        assert run["waiting"][0]["run_id"] == child["run_id"]
        await posted(http, f"/v1/runs/{child['run_id']}:resume", verdict="approve")
        events = await http.get(f"/v1/runs/{run['run_id']}/events")
        last = json.loads(events.text.splitlines()[-1])
        assert last["completed"]["answer"] == "All is well"

    async def test_a_tree_is_nodes_mermaid_and_svg(self, http, tree):
        lead, _ = await tree(Reply(("Nothing",)))
        run = await posted(http, f"{lead.path}:run", query="hi")
        graph = await got(http, f"/v1/runs/{run['run_id']}/tree")
        kinds = [node["kind"] for node in graph["nodes"]]
        assert kinds == ["run", "model_call", "tool_call", "model_call", "run", "model_call"]
        assert graph["mermaid"].startswith("flowchart")
        assert ElementTree.fromstring(graph["svg"]).tag.endswith("svg")

    async def test_a_graph_of_an_agent_names_its_sub_agents(self, http, tree):
        lead, worker = await tree(Reply(("Nothing",)))
        graph = await got(http, f"{lead.path}/graph")
        agents = [node["label"] for node in graph["nodes"] if node["kind"] == "agent"]
        assert agents == [lead.name, worker.name]

    async def test_agents_may_not_call_one_another_in_a_circle(self, http, tree):
        lead, worker = await tree(Reply(("Nothing",)))
        manifest = await got(http, worker.path)
        manifest["spec"]["tools"] = [{"name": lead.name, "type": "agent"}]
        refused = await http.patch(worker.path, json=manifest)
        assert refused.status_code == 400
        assert "is a circle of agents" in refused.json()["message"]

    @pytest.mark.parametrize("path", ["/v1/runs/nothing/tree", "/v1/agents/nobody/graph"])
    async def test_of_what_is_not_there_nothing_is_drawn(self, http, path):
        assert (await http.get(path)).status_code == 404


class TestOnTheCommandLine:
    async def test_a_run_is_a_tree_of_lines(self, http, tree, cli):
        lead, worker = await tree(Reply(("Nothing",)))
        run = await posted(http, f"{lead.path}:run", query="hi")
        lines = (await cli("runs", "tree", run["run_id"])).out.splitlines()
        assert lines[0].startswith(f"{lead.name}: hi  run · completed")
        assert f"{worker.name}: find out" in "\n".join(lines)
        assert len(lines) == 6

    async def test_an_agent_is_a_tree_of_lines(self, tree, cli):
        lead, worker = await tree(Reply(("Nothing",)))
        out = (await cli("agents", "graph", lead.name)).out
        assert out.splitlines()[0] == f"{lead.name}  agent · react"
        assert f"asks {worker.name}  agent · react" in out

    async def test_agents_of_one_file_may_stand_in_any_order(self, an_agent, cli, tmp_path):
        base = await an_agent(Reply(("Nothing",)))
        choice = {"provider": "openai_compat", "endpoint": base.model.endpoint, "model": "m"}
        model = {"primary": choice}
        lead, worker = f"{base.name}-lead", f"{base.name}-worker"
        specs = {lead: {"model": model, "tools": [{"name": worker, "type": "agent"}]}}
        specs[worker] = {"model": model}
        file = tmp_path / "both.yaml"
        head = {"apiVersion": "astromesh/v1", "kind": "Agent"}
        file.write_text(
            yaml.safe_dump_all(
                {**head, "metadata": {"name": name}, "spec": spec} for name, spec in specs.items()
            )
        )
        done = await cli("agents", "apply", "-f", str(file))
        for name in specs:
            await cli("agents", "delete", name)
        assert (done.code, done.out.splitlines()) == (0, [f"applied {worker}", f"applied {lead}"])

    async def test_pictures_go_to_files(self, tree, cli, tmp_path):
        lead, _ = await tree(Reply(("Nothing",)))
        file = tmp_path / "agent.svg"
        done = await cli("agents", "graph", lead.name, "--format", "svg", "-o", str(file))
        assert (done.code, done.out) == (0, "")
        assert ElementTree.parse(file).getroot().tag.endswith("svg")

    @pytest.mark.parametrize("form", ["mermaid", "json", "svg"])
    async def test_other_forms_are_printed(self, tree, cli, form):
        lead, _ = await tree(Reply(("Nothing",)))
        begins = {"mermaid": "flowchart", "json": "{", "svg": "<svg"}[form]
        done = await cli("agents", "graph", lead.name, "--format", form)
        assert done.out.startswith(begins)

    async def test_a_file_that_can_not_be_written_is_a_failure(self, tree, cli, tmp_path):
        lead, _ = await tree(Reply(("Nothing",)))
        file = str(tmp_path / "no" / "where.svg")
        done = await cli("agents", "graph", lead.name, "--format", "svg", "-o", file)
        assert done.code == failures.FAILED
        assert "No such file" in done.err

    async def test_runs_that_wait_are_listed(self, http, tree, cli):
        _, child = await waiting(http, tree)
        out = (await cli("runs", "list", "--state", "waiting_approval", "-o", "json")).out
        assert child["run_id"] in [each["run_id"] for each in json.loads(out)]

    async def test_a_run_that_waits_says_for_what(self, http, tree, cli):
        run, child = await waiting(http, tree)
        shown = (await cli("runs", "get", child["run_id"])).out
        assert 'approval of call 1.0: calculator({"expression": "2+3"})' in shown
        assert f"run {child['run_id']} (call 1.0" in (await cli("runs", "get", run["run_id"])).out

    async def test_an_approval_may_change_the_arguments(self, http, tree, cli):
        _, child = await waiting(http, tree)
        words = ("--approve", "--arguments", '{"expression": "3+3"}', "--wait", "-o", "json")
        done = json.loads((await cli("runs", "resume", child["run_id"], *words)).out)
        assert done["state"] == "RUN_STATE_COMPLETED"
        told = (await cli("runs", "events", child["run_id"])).out
        assert 'calculator({"expression": "3+3"})' in told
        assert "approve call 1.0" in told

    async def test_a_rejection_is_told_with_its_reason(self, http, tree, cli):
        _, child = await waiting(http, tree)
        words = ("--reject", "too dear", "--call", "1.0", "--wait")
        assert "completed" in (await cli("runs", "resume", child["run_id"], *words)).out
        assert "too dear" in (await cli("runs", "events", child["run_id"])).out

    async def test_a_result_is_what_the_clients_tool_gave(self, an_agent, cli):
        tools = [{"name": "camera", "type": "client", "description": "Takes a picture."}]
        helper = await an_agent(Reply((), calls=[Call("camera")]), Reply(("A cat",)), tools=tools)
        asked = await cli("run", helper.name, "what is there?")
        assert asked.code == failures.FAILED
        assert "the run is waiting_input" in asked.err
        run = asked.err.rpartition("runs resume ")[2].strip().rstrip("`")
        done = await cli("runs", "resume", run, "--result", "cat.png", "--wait")
        assert "A cat" in done.out
        assert helper.model.requests[-1].body["messages"][-1]["content"] == "cat.png"

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "say one of"),
            (("--approve", "--reject", "no"), "say one of"),
            (("--approve", "--arguments", "["), "is no JSON"),
            (("--approve", "--arguments", "[]"), "no JSON object"),
            (("--approve", "--failed"), "--failed goes with --result"),
        ],
    )
    async def test_an_answer_that_is_none_is_refused(self, cli, words, says):
        done = await cli("runs", "resume", "any", *words)
        assert done.code == failures.FAILED
        assert says in done.err
