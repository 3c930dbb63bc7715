"""Graphs: their size, where nodes stand, and what becomes of what strangers wrote."""

from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from servers.agents.graphs.layout import places
from servers.agents.graphs.mermaid import mermaid
from servers.agents.graphs.run_tree import run_tree
from servers.agents.graphs.sketch import Sketch
from servers.agents.graphs.svg import svg
from servers.agents.graphs.words import cells, shortened
from servers.domain.chat import Finish, Role, says
from servers.domain.graphs import Edge, Node
from servers.domain.run_events import ModelReplied, Restarted, TextDelta, ToolCalled
from servers.domain.runs import RunState
from tests.contract.run_fixture import a_run, ended, event

graphs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40).map(
    lambda pairs: [Edge(f"n{a}", f"n{b}") for a, b in pairs]
)
IDS = [f"n{number}" for number in range(13)]


class TestPlaces:
    @given(graphs)
    def test_are_taken_by_one_node_each_whatever_the_edges(self, edges):
        found = places(IDS, edges)
        assert len(set(found.values())) == len(IDS)

    def test_lead_from_left_to_right(self):
        edges = [Edge("a", "b"), Edge("b", "c"), Edge("a", "c")]
        found = places(["a", "b", "c"], edges)
        assert [found[name].column for name in "abc"] == [0, 1, 2]

    def test_are_in_the_middle_of_what_is_behind(self):
        found = places(["a", "b", "c"], [Edge("a", "b"), Edge("a", "c")])
        assert [found[name].row for name in "abc"] == [0.5, 0, 1]

    def test_end_with_circles(self):
        found = places(["a", "b"], [Edge("a", "b"), Edge("b", "a"), Edge("a", "a")])
        assert [found[name].column for name in "ab"] == [0, 1]

    def test_of_a_chain_of_thousands_need_no_recursion(self):
        ids = [f"n{number}" for number in range(5000)]
        found = places(ids, [Edge(a, b) for a, b in pairwise(ids)])
        assert found["n4999"].column == 4999


class TestLabels:
    @given(st.text())
    def test_of_strangers_are_text_in_the_picture(self, text):
        node = Node("n1", "tool", text, state=text, problem=text)
        drawn = ElementTree.fromstring(svg([node], [Edge("n1", "n1", text)]))
        tags = {each.tag.rpartition("}")[2] for each in drawn.iter()}
        assert tags == {"svg", "style", "defs", "marker", "path", "rect", "g", "title", "text"}

    @given(st.text())
    def test_of_strangers_end_no_label_of_mermaid(self, text):
        drawn = mermaid([Node("n1", "tool", text)], [])
        assert drawn.count("\n") == 2
        assert drawn.count('"') == 2
        assert "`" not in drawn
        assert "<" not in drawn.replace("<br/>", "")

    def test_are_one_line_of_a_bounded_length(self):
        assert shortened("a\n b\x00\u202ec" + "d" * 100, 10) == "a b cdddd…"

    def test_are_measured_in_cells(self):
        assert cells("ab漢") == 4


class TestASketch:
    def test_that_is_full_says_how_many_are_missing(self):
        sketch = Sketch(most=4)
        first = sketch.add("run", "r")
        for number in range(10):
            sketch.add("tool_call", str(number), first)
        graph = sketch.graph()
        assert len(graph.nodes) == 4
        assert graph.nodes[-1].label == "8 more are not shown"


def reply(number):
    return ModelReplied(number, says(Role.ASSISTANT, "hi"), Finish(provider="p", model="m"))


async def drawn(run, payloads, most=2000):
    async def look(run_id):
        return run

    async def read(run_id):
        for number, payload in enumerate(payloads, 1):
            yield event(number, payload)

    return (await run_tree(run.id, look, read, most)).graph()


class TestTheTreeOfARun:
    async def test_is_bounded(self):
        graph = await drawn(a_run(), [reply(number) for number in range(1, 3000)])
        assert len(graph.nodes) == 2000
        assert graph.nodes[-1].label == "1001 more are not shown"
        assert len(graph.svg) < 2_000_000

    async def test_shows_a_model_that_is_speaking(self):
        graph = await drawn(a_run(), [TextDelta("Hm"), TextDelta("m")])
        assert [(n.kind, n.state) for n in graph.nodes] == [
            ("run", "running"),
            ("model_call", "running"),
        ]

    async def test_shows_what_the_end_of_the_run_has_cut_off(self):
        run = ended(a_run(), RunState.CANCELLED)
        graph = await drawn(run, [reply(1), ToolCalled("1.0", "t", "{}"), TextDelta("Hm", 2)])
        assert [node.state for node in graph.nodes] == ["cancelled", "stop", "cut_off", "cut_off"]

    async def test_has_a_call_that_was_made_again_after_a_crash_once(self):
        graph = await drawn(a_run(), [TextDelta("Hm"), Restarted(2, 0), TextDelta("Hi"), reply(1)])
        assert [(node.label, node.state) for node in graph.nodes[1:]] == [("p/m", "stop")]
