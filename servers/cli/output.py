"""Answers as tables for people, JSON and YAML for programs."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from servers.cli.choices import Output
from servers.cli.text import clean

Columns: TypeAlias = Mapping[str, Callable[[Any], Any]]  # title: what it shows of a message

_WIDE = 240  # characters of a line where nobody looks at it
_IN_ONE_PIECE = 40  # characters of a name that isn't folded, so that it can be copied


def show_all(messages: Iterable[Message], columns: Columns, form: Output) -> None:
    """A list. JSON and YAML hold everything, a table what the columns show."""
    if form is Output.TABLE:
        _table(columns, [[_cell(show(m)) for show in columns.values()] for m in messages])
    else:
        dump([_tree(message) for message in messages], form)


def show_one(message: Message, columns: Columns, form: Output) -> None:
    if form is Output.TABLE:
        shown = {title: _cell(show(message)) for title, show in columns.items()}
        width = max(map(len, shown))
        for title, value in shown.items():
            if value:
                print(f"{title:{width}}  {value}")
    else:
        dump(_tree(message), form)


def local_time(when: Timestamp) -> str:
    if not when.seconds:
        return ""
    return datetime.fromtimestamp(when.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _tree(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def dump(tree: Any, form: Output) -> None:
    """As JSON or YAML."""
    if form is Output.JSON:
        import json

        print(json.dumps(tree, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), end="")


def _table(columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, title in enumerate(columns):
        named = at == 0 and all(len(row[0]) <= _IN_ONE_PIECE for row in rows)
        table.add_column(title, overflow="fold", no_wrap=named)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if sys.stdout.isatty():
        Console(soft_wrap=False).print(table)
        return
    console = Console(width=_WIDE, soft_wrap=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
    return clean(str(value))
