"""Graphs between the wire and the domain."""

from astromesh.agents.v1 import graph_pb2 as pb

from servers.domain.graphs import Edge, Graph, Node
from servers.kernel.chat_wire import usage_from, usage_to


def graph_to(graph: Graph) -> pb.Graph:
    edges = [pb.GraphEdge(source=e.source, target=e.target, label=e.label) for e in graph.edges]
    nodes = [_node_to(node) for node in graph.nodes]
    return pb.Graph(nodes=nodes, edges=edges, mermaid=graph.mermaid, svg=graph.svg)


def _node_to(node: Node) -> pb.GraphNode:
    return pb.GraphNode(
        id=node.id,
        kind=node.kind,
        label=node.label,
        state=node.state,
        duration_seconds=node.duration,
        usage=usage_to(node.usage) if node.usage else None,
        run_id=node.run_id,
        problem=node.problem,
    )


def graph_from(wire: pb.Graph) -> Graph:
    nodes = tuple(
        Node(
            each.id,
            each.kind,
            each.label,
            each.state,
            each.duration_seconds,
            usage_from(each.usage) if each.HasField("usage") else None,
            each.run_id,
            each.problem,
        )
        for each in wire.nodes
    )
    edges = tuple(Edge(each.source, each.target, each.label) for each in wire.edges)
    return Graph(nodes, edges, wire.mermaid, wire.svg)
