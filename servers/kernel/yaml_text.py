"""YAML text to plain JSON-like values, safely, with every value's place in the text.

For text that strangers wrote: size, depth, node count and alias expansion are bounded, and
nothing but text, numbers, booleans, null, lists and mappings can come out. Scalars follow
YAML 1.2, so that `no` and `2026-01-01` are text. Duplicate keys are errors. What the values
mean is none of this module's business.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import yaml

from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.paths import Path

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 50_000  # as written
MAX_EXPANDED = 100_000  # with every alias counted as what it stands for
REASON = "MANIFEST_INVALID"

_CORE = "tag:yaml.org,2002:"
# libyaml where PyYAML was built with it: ten times faster, and start-up reads every file.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `origin` is its file's name, or empty for a value without a file."""

    value: Any
    origin: str = ""
    node: yaml.Node | None = field(default=None, repr=False)

    def line(self, path: Path) -> int | None:
        """The line, from 1, of the value at `path`, or of its nearest parent that exists."""
        node, place = self.node, self.node
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            place, node = found
        return place.start_mark.line + 1 if place is not None else None


def read_yaml(text: str | bytes, origin: str) -> tuple[Document, ...]:
    """All documents of a text; empty ones are left out.

    InvalidInput (MANIFEST_INVALID) names `origin`, line and column.
    """
    if isinstance(text, bytes):
        text = _decoded(text, origin)
    if len(text) > MAX_BYTES:
        raise _refused(origin, f"larger than {MAX_BYTES >> 10} KiB")
    try:
        _check_outline(text)
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]
        return tuple(
            Document(value, origin, node)
            for node in nodes
            if (value := _Builder().build(node)) is not None
        )
    except yaml.MarkedYAMLError as error:
        where = _place(origin, error.problem_mark or error.context_mark)
        raise _refused(where, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())  # one line, as every error
        raise _refused(origin, f"not valid YAML: {what}") from None


class _Loader(_Base):  # type: ignore[misc]  # the base is chosen at run time
    """Composes nodes with YAML 1.2's scalars. Never constructs an object."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's interface


_INT = r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"^(?:{_pattern})$"), list(_first))


def _check_outline(text: str) -> None:
    """Refuse what would cost too much to compose. Reads events one by one, keeps nothing."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            raise _problem(f"nested deeper than {MAX_DEPTH} levels", event)
        if nodes > MAX_NODES:
            raise _problem(f"more than {MAX_NODES} values", event)


class _Builder:
    """Nodes to values, with a budget that aliases use up like everything else."""

    def __init__(self) -> None:
        self._built = self._depth = 0

    def build(self, node: yaml.Node) -> Any:
        self._built += 1
        if self._built > MAX_EXPANDED:
            raise _problem(f"aliases expand to more than {MAX_EXPANDED} values", node)
        if self._depth > MAX_DEPTH:
            raise _problem("an alias contains itself", node)
        self._depth += 1
        value = self._value(node)
        self._depth -= 1
        return value

    def _value(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_CORE)
        match node:
            case yaml.ScalarNode() if kind in _SCALARS:
                try:
                    return _SCALARS[kind](node.value)
                except ValueError:
                    raise _problem(f"{node.value[:40]!r} is not a valid {kind}", node) from None
            case yaml.SequenceNode() if kind == "seq":
                return [self.build(item) for item in node.value]
            case yaml.MappingNode() if kind == "map":
                return self._mapping(node)
        raise _problem(f"the tag {node.tag} is not allowed", node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key must be plain text", key)
            if key.tag == _CORE + "merge":
                merged = self._merged(value) | merged
            elif key.value in own:
                raise _problem(f"the key {key.value!r} is written twice", key)
            else:
                own[key.value] = self.build(value)
        return merged | own

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        """What `<<: *base` or `<<: [*first, *second]` adds; the first one wins."""
        value = self.build(node)
        merged: dict[str, Any] = {}
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise _problem("<< takes mappings only", node)
            merged = each | merged
        return merged


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):  # 1e999: JSON has no infinity
        raise ValueError
    return value


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _integer,
    "float": _finite,
    "bool": lambda text: text[0] in "tT",
    "null": lambda text: None,
}


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The place to point at and the value behind one step of a path."""
    match node, step:
        case yaml.MappingNode(), str():
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value == step:
                    return key, value
        case yaml.SequenceNode(), int() if step < len(node.value):
            return node.value[step], node.value[step]
    return None


def _decoded(text: bytes, origin: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(origin, f"not UTF-8 text (byte {error.start})") from None


def _problem(text: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


def _place(origin: str, mark: Any) -> str:
    if mark is None:
        return origin
    line, column = mark.line + 1, mark.column + 1
    return f"{origin}:{line}:{column}" if origin else f"line {line}, column {column}"


def _refused(where: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"{where}: {what}" if where else what,
        reason=REASON,
        violations=(Violation("", what),),
    )
