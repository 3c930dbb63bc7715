"""A manifest as the JSON tree that its protobuf message has: set keys only, one spelling each."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from servers.kernel.fields import HIDDEN, SecretMark
from servers.kernel.paths import Path, at


def canonical(model: BaseModel) -> dict[str, Any]:
    return _tree(model, hide=False)


def redacted(model: BaseModel, variables: Mapping[Path, str]) -> dict[str, Any]:
    """`canonical` for other eyes: secrets are ``***``, and where a variable was used, its
    name is shown rather than its value."""
    tree = _tree(model, hide=True)
    for path, source in variables.items():
        if isinstance(shown := at(tree, path), str) and shown != HIDDEN:
            at(tree, path[:-1])[path[-1]] = source
    return tree


def _tree(model: BaseModel, hide: bool) -> dict[str, Any]:
    """In the order of declaration; empty texts, lists and mappings count as not set."""
    found = {}
    for name, field in type(model).model_fields.items():
        if name in model.model_fields_set:
            value = _plain(getattr(model, name), hide)
            if value not in (None, "", [], {}):
                found[name] = _hidden(value, field) if hide else value
    return found


def _plain(value: Any, hide: bool) -> Any:
    match value:
        case BaseModel():
            return _tree(value, hide)
        case tuple():
            return [_plain(item, hide) for item in value]
        case dict():
            return {key: _plain(item, hide) for key, item in value.items()}
    return value


def _hidden(value: Any, field: FieldInfo) -> Any:
    if not any(isinstance(each, SecretMark) for each in field.metadata):
        return value
    return _without_password(value) if "://" in value else HIDDEN


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
    except ValueError:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    return urlunsplit(parts._replace(netloc=f"{user}:{HIDDEN}@{host}"))
