"""How much work it is to check a value by a JSON Schema, found out before it is done.

Schemas that refer to one another may speak about the same value ever so often: twice as
often with every level, for ever where one refers to itself. A validator that has begun can't
be stopped, so what would take too long must never begin.
"""

from dataclasses import dataclass, field
from typing import Any

from servers.kernel.subschemas import HERE, ITEMS, MEMBERS, Schema, referred, under

MOST_LEVELS = 250


@dataclass(slots=True)
class _Node:
    """A schema, and the ones inside it by what they speak about."""

    here: list["_Node"] = field(default_factory=list)  # the same value
    named: dict[str, "_Node"] = field(default_factory=dict)  # its member of that name
    members: list["_Node"] = field(default_factory=list)  # any of its members
    items: list["_Node"] = field(default_factory=list)


class Work:
    """Counts one step for every schema that meets a part of the value; never too few."""

    def __init__(self, root: Schema) -> None:
        self._schema = root
        self._nodes: dict[int, _Node] = {}  # by id(schema)
        self._root = self._node(root)

    def affordable(self, value: Any, most: int) -> bool:
        """Whether it takes no more than `most` steps."""
        pending: list[tuple[_Node, Any, int]] = [(self._root, value, 1)]
        steps = 0
        while pending:
            node, part, level = pending.pop()
            before = len(pending)
            pending.extend((inner, part, level + 1) for inner in node.here)
            if isinstance(part, dict):
                for name, inner in part.items():
                    if name in node.named:
                        pending.append((node.named[name], inner, level + 1))
                    pending.extend((each, inner, level + 1) for each in node.members)
            elif isinstance(part, list) and node.items:
                pending.extend((each, inner, level + 1) for inner in part for each in node.items)
            steps += len(pending) - before
            if steps > most or level > MOST_LEVELS:
                return False
        return True

    def _node(self, schema: Schema) -> _Node:
        """The node of `schema`, made with all that it leads to."""
        pending, first = [schema], id(schema)
        self._nodes[first] = _Node()
        while pending:
            each = pending.pop()
            node = self._nodes[id(each)]
            for place, inner in self._inner(each):
                if id(inner) not in self._nodes:
                    self._nodes[id(inner)] = _Node()
                    pending.append(inner)
                _put(node, place, self._nodes[id(inner)])
        return self._nodes[first]

    def _inner(self, schema: Schema) -> list[tuple[tuple[str | int, ...], Schema]]:
        found = list(under(schema, *HERE, *MEMBERS, *ITEMS))
        target = referred(self._schema, schema["$ref"]) if _refers(schema) else None
        return [*found, (("$ref",), target)] if isinstance(target, dict) else found


def _refers(schema: Schema) -> bool:
    return isinstance(schema.get("$ref"), str)


def _put(node: _Node, place: tuple[str | int, ...], inner: _Node) -> None:
    match place:
        case ("properties", str(name)):
            node.named[name] = inner
        case (keyword, *_) if keyword in MEMBERS:
            node.members.append(inner)
        case (keyword, *_) if keyword in ITEMS:
            node.items.append(inner)
        case _:
            node.here.append(inner)
