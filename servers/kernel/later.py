"""What manifests may say one day, and are refused for until then: one table per kind.

Refusing beats ignoring: a guardrail that is read and not applied is worse than none. Whoever
builds a feature deletes its line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from servers.kernel.paths import Path, Wrong, matches


@dataclass(frozen=True, slots=True)
class Later:
    """A key, or some values of it, that this version refuses.

    `path` is a pattern (``spec.tools.*.type``). `says` may use ``{value}``. The refused
    part begins `up` steps above the path: what else is wrong inside it isn't reported.
    """

    path: str
    says: str
    values: frozenset[object] | None = None  # None: any value but an empty one
    up: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    wrong: Wrong
    part: Path


def refusals(value: Any, table: Sequence[Later]) -> Iterator[Refusal]:
    for line in table:
        for path, found in matches(value, line.path):
            if _applies(line, found):
                says = line.says.format(value=found)
                yield Refusal(Wrong(path, says), path[: len(path) - line.up])


def _applies(line: Later, found: Any) -> bool:
    if line.values is None:
        return found not in (None, "", [], {}, False)
    return isinstance(found, str | bool) and found in line.values
