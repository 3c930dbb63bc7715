"""Where nodes stand: columns from left to right, by how far they are from the first one.

Every node that has others behind it stands in the middle of those. What is reached on
several ways has its place behind the one that came first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from servers.domain.graphs import Edge


@dataclass(frozen=True, slots=True)
class Place:
    column: int
    row: float


def places(ids: Sequence[str], edges: Iterable[Edge]) -> Mapping[str, Place]:
    """Of all nodes. No two have the same place, circles or not."""
    behind: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        behind[edge.source].append(edge.target)
    order, children, back = _walked(ids, behind)
    columns = _columns(order, behind, back)
    rows = _rows(order, children)
    return {node: Place(columns[node], rows[node]) for node in ids}


def _walked(
    ids: Sequence[str], behind: Mapping[str, Sequence[str]]
) -> tuple[list[str], dict[str, list[str]], set[tuple[str, str]]]:
    """Nodes so that each comes after all that are behind it; a tree of them; and the edges
    that lead back in a circle."""
    order: list[str] = []
    children: dict[str, list[str]] = defaultdict(list)
    back: set[tuple[str, str]] = set()
    seen, on_the_way = set(), set()
    for root in ids:
        if root in seen:
            continue
        seen.add(root)
        on_the_way.add(root)
        stack = [(root, iter(behind.get(root, ())))]
        while stack:
            node, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                stack.pop()
                on_the_way.discard(node)
                order.append(node)
            elif child in on_the_way:
                back.add((node, child))
            elif child not in seen:
                seen.add(child)
                on_the_way.add(child)
                children[node].append(child)
                stack.append((child, iter(behind.get(child, ()))))
    return order, children, back


def _columns(
    order: Sequence[str], behind: Mapping[str, Sequence[str]], back: set[tuple[str, str]]
) -> dict[str, int]:
    columns = dict.fromkeys(order, 0)
    for node in reversed(order):
        for child in behind.get(node, ()):
            if (node, child) not in back:
                columns[child] = max(columns[child], columns[node] + 1)
    return columns


def _rows(order: Sequence[str], children: Mapping[str, Sequence[str]]) -> dict[str, float]:
    rows: dict[str, float] = {}
    leaves = 0
    for node in order:  # children come before
        if below := children.get(node):
            rows[node] = (rows[below[0]] + rows[below[-1]]) / 2
        else:
            rows[node] = float(leaves)
            leaves += 1
    return rows
