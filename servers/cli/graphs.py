"""Graphs of a mesh: a tree in the terminal, Mermaid, SVG or JSON, printed or written to a file."""

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from astromesh.agents.v1 import graph_pb2 as pb
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from astromesh.agents.v1.graph_pb2 import Graph, GraphNode
from google.protobuf.json_format import MessageToJson

from servers.cli.choices import Drawn
from servers.cli.client import PATIENCE, connected
from servers.cli.text import clean
from servers.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_WIDE = 240  # characters of a line where nobody looks at it
_STYLES = {
    "agent": "bold blue",
    "run": "bold blue",
    "model": "magenta",
    "model_call": "magenta",
    "tool": "green",
    "tool_call": "green",
    "wait": "yellow",
    "guard": "yellow",
}
_BAD = frozenset({"error", "failed", "timeout", "timed_out", "blocked", "cut_off"})


async def draw_agent(address: str, agent: str, form: Drawn, file: Path | None) -> None:
    async with connected(address) as channel:
        request = pb.GetAgentGraphRequest(agent=agent)
        graph = await AgentServiceStub(channel).GetAgentGraph(request, timeout=PATIENCE)
    _put(graph, form, file)


async def draw_run(address: str, run: str, form: Drawn, file: Path | None) -> None:
    async with connected(address) as channel:
        request = pb.GetRunTreeRequest(run=run)
        graph = await AgentServiceStub(channel).GetRunTree(request, timeout=PATIENCE)
    _put(graph, form, file)


def _put(graph: Graph, form: Drawn, file: Path | None) -> None:
    if form is Drawn.TREE:
        _print_tree(graph, file)
        return
    text = {
        Drawn.MERMAID: lambda: graph.mermaid,
        Drawn.SVG: lambda: graph.svg,
        Drawn.JSON: lambda: (
            MessageToJson(graph, preserving_proto_field_name=True, ensure_ascii=False) + "\n"
        ),
    }[form]()
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from error


def _print_tree(graph: Graph, file: Path | None) -> None:
    from rich.console import Console

    if file is None:
        width = None if sys.stdout.isatty() else _WIDE
        Console(width=width, soft_wrap=False).print(_tree(graph))
        return
    try:
        with file.open("w", encoding="utf-8") as out:
            Console(file=out, width=_WIDE).print(_tree(graph))
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from error


def _tree(graph: Graph) -> "Tree":
    """Each node once: where it is reached again, its name alone."""
    from rich.tree import Tree

    nodes = {node.id: node for node in graph.nodes}
    behind: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in graph.edges:
        behind[edge.source].append((edge.target, edge.label))
    root, *_ = graph.nodes
    seen = {root.id}
    tree = Tree(_said(root, ""), guide_style="dim")
    stack = [(tree, root.id)]
    while stack:
        branch, node_id = stack.pop()
        below = []
        for target, label in behind[node_id]:
            if target in seen:
                branch.add(_said_again(nodes[target], label))
                continue
            seen.add(target)
            below.append((branch.add(_said(nodes[target], label)), target))
        stack.extend(reversed(below))
    return tree


def _said(node: GraphNode, edge: str) -> "Text":
    from rich.text import Text

    text = Text()
    if edge:
        text.append(f"{clean(edge)} ", "dim")
    text.append(" ".join(clean(node.label).split())[:200], _STYLES.get(node.kind, "bold"))
    if remark := _remark(node):
        text.append(f"  {remark}", "red" if node.state in _BAD else "dim")
    if node.problem:
        text.append(f"  {' '.join(clean(node.problem).split())}", "red")
    return text


def _said_again(node: GraphNode, edge: str) -> "Text":
    from rich.text import Text

    label = " ".join(clean(node.label).split())[:200]
    return Text.assemble((f"{clean(edge)} " if edge else "", "dim"), label, ("  see above", "dim"))


def _remark(node: GraphNode) -> str:
    parts = [node.kind.replace("_", " "), clean(node.state).replace("_", " ")]
    if took := node.duration_seconds:
        parts.append(f"{took:.1f} s" if took >= 1 else f"{took * 1000:.0f} ms")
    if node.HasField("usage"):
        parts.append(f"{node.usage.prompt_tokens}+{node.usage.completion_tokens} tokens")
    if node.kind == "run":
        parts.append(node.run_id)
    return " · ".join(part for part in parts if part)
