"""A graph in Mermaid's language: https://mermaid.js.org/syntax/flowchart.html

Labels come from strangers: whatever could mean something to Mermaid, to Markdown or to HTML
is written as an entity code.
"""

from collections.abc import Iterable

from servers.agents.graphs.words import remark, shortened, title
from servers.domain.graphs import Edge, Node

_PLAIN = frozenset(" .,:·…+-_/'")  # beside letters and digits
_SHAPES = {  # what encloses the label
    "agent": ("([", "])"),
    "run": ("([", "])"),
    "model": ("[(", ")]"),
    "model_call": ("[", "]"),
    "wait": ("{{", "}}"),
    "guard": ("{{", "}}"),
    "more": (">", "]"),
}


def mermaid(nodes: Iterable[Node], edges: Iterable[Edge], across: bool = False) -> str:
    lines = [f"flowchart {'LR' if across else 'TD'}"]
    faulty = []
    for node in nodes:
        before, behind = _SHAPES.get(node.kind, ("[", "]"))
        text = "<br/>".join(map(_escaped, _lines(node)))
        lines.append(f'  {node.id}{before}"{text}"{behind}')
        if node.problem or node.state in ("error", "failed"):
            faulty.append(node.id)
    for edge in edges:
        label = f'|"{_escaped(shortened(edge.label))}"|' if edge.label else ""
        lines.append(f"  {edge.source} -->{label} {edge.target}")
    if faulty:
        lines.append("  classDef faulty stroke:#c62828,stroke-width:2px")
        lines.append(f"  class {','.join(faulty)} faulty")
    return "\n".join(lines) + "\n"


def _lines(node: Node) -> list[str]:
    lines = [title(node), remark(node)]
    return [*lines, shortened(node.problem)] if node.problem else lines


def _escaped(text: str) -> str:
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in text)
