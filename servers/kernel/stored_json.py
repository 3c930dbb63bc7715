"""How domain values lie in a database: JSON whose keys are the values' field names.

Writing takes any domain value; reading a message back is here because every service
stores messages. Renaming a field of a stored value therefore needs a migration, while
a field that is added with a default does not.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeAlias

import orjson

from servers.domain.chat import Image, Message, Part, Role, Text, ToolCall

Tree: TypeAlias = dict[str, Any]

# orjson knows neither integers beyond 64 bits nor half surrogate pairs. The standard
# library does: what it wrote begins with a space, so that it also reads it.
_ODD = b" "

_ROLES = {role.value: role for role in Role}  # much cheaper than Role(value)


def dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError:
        return _ODD + json.dumps(value, default=_plain).encode()


def loads(body: bytes) -> Any:
    return json.loads(body) if body.startswith(_ODD) else orjson.loads(body)


def loads_joined(bodies: bytes) -> list[Any]:
    """Several bodies with commas between them: at one go, which is cheaper."""
    text = b"[" + bodies + b"]"
    try:
        return orjson.loads(text)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:  # one of them is odd
        return json.loads(text)  # type: ignore[no-any-return]


def message_from(tree: Tree) -> Message:
    calls = tree["tool_calls"]
    return Message(
        _ROLES[tree["role"]],
        tuple([_part(part) for part in tree["parts"]]),
        tuple([ToolCall(**call) for call in calls]) if calls else (),
        tree["tool_call_id"],
        tree["reasoning"],
    )


def _part(tree: Tree) -> Part:
    if "text" in tree:
        return Text(tree["text"])
    return Image(tree["url"], base64.b64decode(tree["data"]), tree["media_type"])


def _plain(value: object) -> Any:
    """The JSON shape of what a JSON library does not know; orjson asks for less of it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} can't be stored as JSON")
