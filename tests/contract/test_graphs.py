"""What an agent may do and what a run did, as graphs, in process and over the wire alike."""

import contextlib
from xml.etree import ElementTree

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import Decision, RunRequest, RunState, Verdict
from servers.kernel.errors import NotFound
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply, refuses
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
WORKER = [{"name": "worker", "type": "agent"}]
ANSWER = (Reply(),)
ASKS = Call("worker", '{"query": "find out"}')
SUM = Call("calculator", '{"expression": "2+3"}')
PAYS = [{"name": "calculator", "requires_approval": True}]


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    @contextlib.asynccontextmanager
    async def started(replies=ANSWER, **specs):
        async with openai_server(*replies) as model:
            manifests = [agent(name, model.endpoint, **spec) for name, spec in specs.items()]
            async with mesh_of(tmp_path, *manifests) as mesh, reached(mesh) as agents:
                yield agents

    return started


def tree(graph):
    """Nodes below one another, as (kind, label, state) and what is below."""
    by_id = {node.id: node for node in graph.nodes}

    def below(node):
        children = [by_id[edge.target] for edge in graph.edges if edge.source == node.id]
        return (node.kind, node.label, node.state), [below(child) for child in children]

    return below(graph.nodes[0])


def named(graph, label):
    (node,) = (node for node in graph.nodes if node.label == label)
    return node


def joined(graph):
    labels = {node.id: node.label for node in graph.nodes}
    return {(labels[e.source], e.label, labels[e.target]) for e in graph.edges}


class TestTheTreeOfARun:
    async def test_shows_its_model_calls_and_tool_calls_in_order(self, world):
        replies = Reply((), calls=[SUM], prompt_tokens=11), Reply(("It is 5",))
        async with world(replies, helper={"tools": ["calculator"]}) as agents:
            run = await agents.run(ME, RunRequest("helper", "hi"))
            graph = await agents.run_tree(ME, run.id)
        model = "openai_compat/m"
        assert tree(graph) == (
            ("run", "helper: hi", "completed"),
            [
                (
                    ("model_call", model, "tool_calls"),
                    [(("tool_call", "calculator", "completed"), [])],
                ),
                (("model_call", model, "stop"), []),
            ],
        )
        assert graph.nodes[0].run_id == run.id
        assert graph.nodes[1].usage.prompt_tokens == 11
        assert graph.nodes[1].duration > 0

    async def test_has_the_runs_of_sub_agents_below_the_calls_that_they_are(self, world):
        replies = Reply((), calls=[ASKS]), Reply(("Nothing",)), Reply(("Done",))
        async with world(replies, lead={"tools": WORKER}, worker={}) as agents:
            run = await agents.run(ME, RunRequest("lead", "hi"))
            graph = await agents.run_tree(ME, run.id)
        ((call, (sub,)),) = tree(graph)[1][0][1]
        assert call == ("tool_call", "worker", "completed")
        assert sub[0] == ("run", "worker: find out", "completed")
        assert sub[1] == [(("model_call", "openai_compat/m", "stop"), [])]

    async def test_has_the_parts_of_a_pattern(self, world):
        stages = {"orchestration": {"pattern": "pipeline", "stages": ["find", "tell"]}}
        async with world(helper=stages) as agents:
            run = await agents.run(ME, RunRequest("helper", "hi"))
            graph = await agents.run_tree(ME, run.id)
        assert [(part[0], len(part[1])) for part in tree(graph)[1]] == [
            (("stage", "find", "completed"), 1),
            (("stage", "tell", "completed"), 1),
        ]

    async def test_shows_what_a_run_waits_for_and_then_what_came(self, world):
        replies = Reply((), calls=[SUM]), Reply(("It is 5",))
        async with world(replies, helper={"tools": PAYS}) as agents:
            run = await agents.run(ME, RunRequest("helper", "hi"))
            waiting = tree(await agents.run_tree(ME, run.id))
            await agents.resume(ME, run.id, Decision("", Verdict.APPROVE), wait=True)
            ended = tree(await agents.run_tree(ME, run.id))
        assert waiting[0][2] == "waiting_approval"
        (call,), (done,) = waiting[1][0][1], ended[1][0][1]
        assert call == (
            ("tool_call", "calculator", "waiting"),
            [(("wait", "waits: approval", "open"), [])],
        )
        assert done == (
            ("tool_call", "calculator", "completed"),
            [(("wait", "waits: approval", "approve"), [])],
        )

    async def test_shows_what_a_rule_did(self, world):
        rules = {"input": [{"type": "pii_detection", "action": "redact"}]}
        async with world(helper={"guardrails": rules}) as agents:
            run = await agents.run(ME, RunRequest("helper", "I am ada@example.com"))
            graph = await agents.run_tree(ME, run.id)
        assert ("guard", "pii_detection on input", "redact") in [part[0] for part in tree(graph)[1]]
        assert "ada@example.com" not in graph.svg + graph.mermaid

    async def test_of_a_failed_run_says_so(self, world):
        async with world((refuses(400),), helper={}) as agents:
            run = await agents.create_run(ME, RunRequest("helper", "hi"))
            async for _ in agents.events(ME, run.id):
                pass
            graph = await agents.run_tree(ME, run.id)
        assert graph.nodes[0].state == RunState.FAILED.value

    async def test_of_an_unknown_run_is_none(self, world):
        async with world(helper={}) as agents:
            with pytest.raises(NotFound):
                await agents.run_tree(ME, "nothing")

    async def test_of_another_tenants_run_is_none(self, world):
        async with world(helper={}) as agents:
            run = await agents.run(ME, RunRequest("helper", "hi"))
            with pytest.raises(NotFound):
                await agents.run_tree(Caller("other"), run.id)

    async def test_is_a_picture_and_text_that_hold_no_markup_of_strangers(self, world):
        evil = '</text><script>alert(1)</script>"]; click n1 "javascript:alert(1)"'
        async with world(helper={}) as agents:
            run = await agents.run(ME, RunRequest("helper", evil))
            graph = await agents.run_tree(ME, run.id)
        tags = {
            element.tag.rpartition("}")[2] for element in ElementTree.fromstring(graph.svg).iter()
        }
        assert tags == {"svg", "style", "defs", "marker", "path", "rect", "g", "title", "text"}
        assert '"]' in graph.mermaid
        assert graph.mermaid.count('"') == 2 * len(graph.nodes)
        assert "click" not in [line.split()[0] for line in graph.mermaid.splitlines()]


class TestTheGraphOfAnAgent:
    async def test_shows_its_models_by_role_and_its_tools(self, world):
        tools = ["calculator", {"name": "ask", "type": "client", "description": "Asks."}]
        async with world(helper={"tools": tools}) as agents:
            graph = await agents.agent_graph(ME, "helper")
        assert (graph.nodes[0].kind, graph.nodes[0].state) == ("agent", "react")
        assert joined(graph) == {
            ("helper", "default", "openai_compat/m"),
            ("helper", "calls", "calculator"),
            ("helper", "calls", "ask"),
        }
        assert named(graph, "ask").state == "client"

    async def test_goes_on_with_its_sub_agents(self, world):
        specs = {"lead": {"tools": WORKER}, "worker": {"tools": PAYS}}
        async with world(**specs) as agents:
            graph = await agents.agent_graph(ME, "lead")
        assert {("lead", "asks", "worker"), ("worker", "calls", "calculator")} <= joined(graph)
        assert named(graph, "calculator").state == "needs approval"

    async def test_shows_stages_one_after_the_other(self, world):
        stages = {"orchestration": {"pattern": "pipeline", "stages": ["find", "tell"]}}
        async with world(helper=stages) as agents:
            graph = await agents.agent_graph(ME, "helper")
        assert {("helper", "", "find"), ("find", "then", "tell")} <= joined(graph)
        assert ("tell", "", "openai_compat/m") in joined(graph)

    async def test_says_what_keeps_an_agent_from_running(self, world):
        async with world(a={"tools": [{"name": "b", "type": "agent"}]}) as agents:
            graph = await agents.agent_graph(ME, "a")
        assert "there is no agent 'b'" in named(graph, "a").problem
        assert "there is no agent 'b'" in named(graph, "b").problem

    async def test_of_agents_in_a_circle_has_each_once(self, world):
        circle = {name: {"tools": [{"name": to, "type": "agent"}]} for name, to in ("ab", "ba")}
        async with world(**circle) as agents:
            graph = await agents.agent_graph(ME, "a")
        assert {("a", "asks", "b"), ("b", "asks", "a")} <= joined(graph)
        ElementTree.fromstring(graph.svg)

    async def test_of_a_swarm_says_who_hands_over_to_whom(self, world):
        swarm = {"orchestration": {"pattern": "swarm"}}
        a, b = ([{"name": name, "type": "agent"}] for name in "ba")
        async with world(a={**swarm, "tools": a}, b={**swarm, "tools": b}) as agents:
            graph = await agents.agent_graph(ME, "a")
        assert {("a", "hands over to", "b"), ("b", "hands over to", "a")} <= joined(graph)
        assert named(graph, "a").problem == ""

    async def test_says_which_tools_a_supervisor_leaves_out(self, world):
        spec = {"orchestration": {"pattern": "supervisor"}, "tools": [*WORKER, "calculator"]}
        async with world(lead=spec, worker={}) as agents:
            graph = await agents.agent_graph(ME, "lead")
        assert "nothing but agents" in named(graph, "calculator").problem
        assert named(graph, "worker").problem == ""

    async def test_of_an_unknown_agent_is_none(self, world):
        async with world(helper={}) as agents:
            with pytest.raises(NotFound, match="helper"):
                await agents.agent_graph(ME, "helpr")
