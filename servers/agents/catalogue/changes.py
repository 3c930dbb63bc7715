"""How an update becomes a whole manifest again: field masks, and secrets that stay."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from servers.agents.manifest import Agent
from servers.domain.chat import Json
from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.explain import nearest_key
from servers.kernel.fields import HIDDEN
from servers.kernel.paths import Path, Wrong, at, dotted, matches

_CHOICES = (
    "spec.model.primary",
    "spec.model.fallback.*",
    "spec.model.default.candidates.*",
    "spec.model.roles.*.candidates.*",
)


def merged(stored: Json, sent: Json, fields: Sequence[str]) -> dict[str, Any]:
    """`stored` with the named fields of `sent`; all of `sent` where none is named, or "*".

    A field that is named and not sent is removed. Raises InvalidInput for unknown fields.
    """
    if not fields or "*" in fields:
        return deepcopy(dict(sent))
    whole = deepcopy(dict(stored))
    for name in fields:
        path = _known(name)
        _place(whole, path, deepcopy(at(sent, path)))
    return whole


def with_secrets(manifest: dict[str, Any], stored: Json) -> list[Wrong]:
    """Put keys that were sent as ``***`` back, in place; returns those that can't be.

    A key goes back only to the provider and endpoint that it was given for: else whoever
    may change an agent could send its key anywhere.
    """
    keys = {
        (choice.get("provider"), choice.get("endpoint")): choice["api_key"]
        for _, choice in _choices(stored)
        if "api_key" in choice
    }
    wrong = []
    for path, choice in _choices(manifest):
        if choice.get("api_key") == HIDDEN:
            key = keys.get((choice.get("provider"), choice.get("endpoint")))
            if key is None:
                says = f"{HIDDEN!r} stands for a stored key, and there is none; send the key itself"
                wrong.append(Wrong((*path, "api_key"), says))
            else:
                choice["api_key"] = key
    return wrong


def _choices(manifest: Json) -> Iterator[tuple[Path, dict[str, Any]]]:
    for pattern in _CHOICES:
        for path, choice in matches(dict(manifest), pattern):
            if isinstance(choice, dict):
                yield path, choice


def _known(name: str) -> Path:
    path = tuple(name.split("."))
    for length in range(1, len(path) + 1):
        hint = nearest_key(Agent, path[: length - 1], path[length - 1])
        if hint is not None:
            says = f"no field {dotted(path[:length])!r}{hint}"
            raise InvalidInput(
                f"update_mask: {says}",
                reason="INVALID_REQUEST",
                violations=(Violation("update_mask", says),),
            )
    return path


def _place(whole: dict[str, Any], path: Path, value: Any) -> None:
    *parents, last = path
    for step in parents:
        whole = whole.setdefault(str(step), {})
    if value is None:
        whole.pop(str(last), None)
    else:
        whole[str(last)] = value
