"""KEY=VALUE of the command line: metadata, and what to filter by."""

import re
from collections.abc import Iterator, Mapping, Sequence

from servers.domain.rag import Scalar
from servers.kernel.errors import InvalidInput

# As in JSON: 007 is a text, and so are nan and 1_000.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def pairs(written: Sequence[str]) -> Iterator[tuple[str, Scalar]]:
    """A value that reads as a number or as true or false is one."""
    for each in written:
        key, found, value = each.partition("=")
        if not found or not key:
            raise InvalidInput(f"{each!r}: write KEY=VALUE")
        yield key, _scalar(value)


def wanted(written: Sequence[str]) -> Mapping[str, list[Scalar]]:
    """Of a key that is written several times any of its values will do."""
    values: dict[str, list[Scalar]] = {}
    for key, value in pairs(written):
        values.setdefault(key, []).append(value)
    return values


def _scalar(value: str) -> Scalar:
    if value in ("true", "false"):
        return value == "true"
    if not _NUMBER.fullmatch(value):
        return value
    return int(value) if value.lstrip("-").isdigit() else float(value)
