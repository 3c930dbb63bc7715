"""Nodes and edges: what an agent may do, or what a run did."""

from dataclasses import dataclass

from servers.domain.chat import Usage


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    kind: str  # one of those that graph.proto names
    label: str  # for people
    state: str = ""  # how it stands or ended
    duration: float = 0.0  # seconds
    usage: Usage | None = None
    run_id: str = ""
    problem: str = ""  # why an agent or tool can't be used


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Node, ...]  # the first one is the agent or the run itself
    edges: tuple[Edge, ...] = ()
    mermaid: str = ""
    svg: str = ""
