"""Which records of a tenant there are, and which of them are in scope: kept in memory, for
databases that compare a filter with all that they have.

A record is known by its heads: its point 0, of each version. Only the newest one is shown, whose
points are those of the numbers below its own count. Nobody changes a version: another one, with
another list of who may see it, has another name. So what was in scope once is in scope as long as
it is there, and is over at a time that it says itself.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from servers.domain.rag import Scalar, Where
from servers.kernel.vectors.payloads import Head, is_over, is_seen, mark, newest
from servers.kernel.vectors.ports import NO_FILTER, Record, Scope, values_of

_MOST_SCOPES: Final = 64  # and filters, whose records are kept
_MOST_SEEN: Final = 1_000_000  # records of all of them together; or those of one

_Key: TypeAlias = tuple[Scope, str]


class Heads:
    """Of one tenant."""

    def __init__(self, heads: Iterable[Head] = ()) -> None:
        self._of: dict[str, dict[str, Head]] = {}
        self._newest: dict[str, Head] = {}
        self._seen: OrderedDict[_Key, tuple[Where, dict[str, Head]]] = OrderedDict()
        self.change = 0  # how often anything has changed
        for head in heads:
            self._of.setdefault(head[0].id, {})[head[1]] = head
        for record, versions in self._of.items():
            self._newest |= {record: newest(versions.values())[record]}

    def __len__(self) -> int:
        return len(self._newest)

    def put(self, head: Head) -> None:
        self._of.setdefault(head[0].id, {})[head[1]] = head
        self._look_again(head[0].id)

    def keep(self, record: str, versions: Collection[str] = ()) -> None:
        """No others of a record than these."""
        of = self._of.pop(record, {})
        if left := {name: head for name, head in of.items() if name in versions}:
            self._of[record] = left
        self._look_again(record)

    def _look_again(self, record: str) -> None:
        self.change += 1
        versions = self._of.get(record)
        if versions is None:
            self._newest.pop(record, None)
        else:
            self._newest[record] = newest(versions.values())[record]
        for (scope, _), (where, seen) in self._seen.items():
            head = self._newest.get(record)
            if head is not None and fits(scope, where, head[0]):
                seen[record] = head
            else:
                seen.pop(record, None)

    def versions(self) -> set[str]:
        """The newest ones of all records."""
        return {version for _, version in self._newest.values()}

    def of(self, records: Iterable[str]) -> list[Head]:
        """All versions of some records, whoever may see them."""
        return [head for record in records for head in self._of.get(record, {}).values()]

    def newest(self, record: str) -> Head | None:
        return self._newest.get(record)

    def seen(self, scope: Scope, where: Where = NO_FILTER) -> Sequence[Head]:
        """Those in scope; many searches in a row ask for the same."""
        whenever = replace(scope, now=None)
        key = whenever, repr(sorted(where.items()))
        if key not in self._seen:
            fitting = (each for each in self._newest.values() if fits(whenever, where, each[0]))
            self._seen[key] = dict(where), {head[0].id: head for head in fitting}
            while len(self._seen) > 1 and self._too_many():
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        seen = self._seen[key][1].values()
        now = scope.now
        return [each for each in seen if now is None or not is_over(each[0], now)]

    def _too_many(self) -> bool:
        kept = sum(len(seen) for _, seen in self._seen.values())
        return len(self._seen) > _MOST_SCOPES or kept > _MOST_SEEN

    def points(self) -> int:
        return sum(record.points for record, _ in self._newest.values())

    def knows(self, key: str) -> bool:
        return any(key in record.metadata for record, _ in self._newest.values())


def fits(scope: Scope, where: Where, record: Record) -> bool:
    """Whether it is in scope."""
    return is_seen(scope, record) and all(
        key in record.metadata and _any_of(wanted, key, record.metadata[key])
        for key, wanted in values_of(where)
    )


def _any_of(wanted: Sequence[Scalar], key: str, value: Scalar) -> bool:
    """As the databases compare: with types, but 1 is 1.0."""
    said = mark(key, value)
    return any(mark(key, each) == said for each in wanted)
