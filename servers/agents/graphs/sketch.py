"""A graph that grows, up to a size that can still be drawn and looked at."""

from dataclasses import replace

from servers.agents.graphs.mermaid import mermaid
from servers.agents.graphs.svg import svg
from servers.domain.graphs import Edge, Graph, Node

MOST_NODES = 2000


class Sketch:
    def __init__(self, across: bool = False, most: int = MOST_NODES) -> None:
        """`across`: drawn from left to right, also as text."""
        self._across = across
        self._most = most
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str, str], Edge] = {}
        self._missing = 0

    @property
    def full(self) -> bool:
        return len(self._nodes) >= self._most - 1  # one place is kept for what is missing

    def add(self, kind: str, label: str, parent: str = "", edge: str = "") -> str:
        """Returns the new node's id; an empty one where there is no room, which is counted."""
        if self.full:
            self._missing += 1
            return ""
        node = Node(f"n{len(self._nodes) + 1}", kind, label)
        self._nodes[node.id] = node
        self.join(parent, node.id, edge)
        return node.id

    def join(self, source: str, target: str, label: str = "") -> None:
        if source and target:
            self._edges[source, target, label] = Edge(source, target, label)

    def miss(self, nodes: int) -> None:
        """So many more there would have been."""
        self._missing += nodes

    def node(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def change(self, node_id: str, **values: object) -> None:
        if node_id:
            self._nodes[node_id] = replace(self._nodes[node_id], **values)  # type: ignore[arg-type]

    def graph(self) -> Graph:
        nodes, edges = list(self._nodes.values()), list(self._edges.values())
        if self._missing:
            rest = Node("more", "more", f"{self._missing} more are not shown")
            edges.append(Edge(nodes[0].id, rest.id))
            nodes.append(rest)
        drawn = mermaid(nodes, edges, self._across), svg(nodes, edges)
        return Graph(tuple(nodes), tuple(edges), *drawn)
