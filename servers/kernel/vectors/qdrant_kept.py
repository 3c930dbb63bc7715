"""What is in a folder of Qdrant's library, in memory: records, vectors and words.

It blocks, and belongs to the library's thread.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from servers.domain.embeddings import Vector
from servers.kernel.vectors import payloads
from servers.kernel.vectors.heads import Heads
from servers.kernel.vectors.index import Index
from servers.kernel.vectors.numbers import Place
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.qdrant_points import WORDS
from servers.kernel.vectors.word_table import Weights, WordTable

Row: TypeAlias = tuple[str, Mapping[str, Any], Any]  # an id, a payload and vectors
Near: TypeAlias = Sequence[tuple[str, float]]  # ids and scores, the best ones first


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a point."""

    tenant: str
    record: str
    version: str
    index: int
    ends: float | None


class Kept:
    """`index` is empty."""

    def __init__(self, index: Index) -> None:
        self._index, self._words = index, WordTable()
        self._heads: dict[str, Heads] = {}
        self._points: dict[str, _Known] = {}
        self._of: dict[tuple[str, str], set[str]] = {}  # a tenant's record: its points
        self._ids: dict[Place, str] = {}

    def heads(self, tenant: str) -> Heads:
        return self._heads.setdefault(tenant, Heads())

    def put(self, rows: Sequence[Row]) -> None:
        """Points of one version may come in several calls, but its point 0 last: then it is
        seen."""
        vectors: list[tuple[int, bytes]] = []
        for name, said, kept in rows:
            known = _known(said)
            self._points[name] = known
            self._of.setdefault((known.tenant, known.record), set()).add(name)
            numbers = self._words.numbers.of_version(known.version, said["points"])
            if known.index in range(len(numbers)):
                self._ids[known.version, known.index] = name
                number = numbers[known.index]
                dense, sparse = _parts(kept)
                vectors.append((number, dense))
                self._words.say(number, sparse)
        self._index.add(sorted(vectors))
        for _, said, _ in rows:
            if said["index"] == 0:
                self.heads(said["tenant"]).put(payloads.head_from(said))

    def ids(self, tenant: str, records: Iterable[str], but: str = "") -> list[str]:
        """Of all points of some records, but those of a version; in the order to delete them."""
        every = (name for record in records for name in self._of.get((tenant, record), ()))
        return self._in_order(name for name in every if self._points[name].version != but)

    def _in_order(self, ids: Iterable[str]) -> list[str]:
        """Each is deleted by itself, and the process may end between two: so that no version is
        seen that has lost points, nor an older one than before."""
        known = {name: self._points[name] for name in ids}
        records = {(each.tenant, each.record) for each in known.values()}
        heads = [head for tenant, record in records for head in self.heads(tenant).of([record])]
        written = {version: record.updated_at for record, version in heads}

        def place(name: str) -> tuple[int, float, str]:
            point = known[name]
            return point.index, written.get(point.version, 0.0), point.version

        return sorted(known, key=place)

    def over(self, now: float) -> tuple[int, list[str]]:
        """How many records have a version that is over by `now`, and the points of these
        versions; and those that torn writes left of records whose newest version is over: it
        would be the newest one then."""
        ended = [name for name, each in self._points.items() if _is_over(each, now)]
        heads = {name for name in ended if self._points[name].index == 0}
        records = {(self._points[name].tenant, self._points[name].record) for name in heads}
        gone = set(ended)
        for tenant, record in records:
            left = payloads.left_behind(self.heads(tenant).of([record]), now)
            every = self._of[tenant, record]
            gone |= {name for name in every if self._points[name].version in left}
        return len(records), self._in_order(gone)

    def remove(self, ids: Iterable[str]) -> None:
        """All points of some versions."""
        gone = [self._points.pop(name) for name in ids]
        versions = {each.version for each in gone}
        self._index.remove(n for each in versions for n in self._words.numbers.of_version(each))
        self._words.drop(versions)
        for each in gone:
            self._ids.pop((each.version, each.index), None)
        for tenant, record in {(each.tenant, each.record) for each in gone}:
            left = {name for name in self._of.pop((tenant, record)) if name in self._points}
            if left:
                self._of[tenant, record] = left
            self.heads(tenant).keep(record, {self._points[name].version for name in left})

    def nearest(self, seen: Sequence[Head], vector: Vector, limit: int) -> Near:
        numbers = self._words.numbers.of(version for _, version in seen)
        if not len(numbers):
            return []
        near = self._index.nearest(array("q", numbers.tobytes()), vector, limit)
        return [(self._ids[self._words.numbers.place(n)], score) for n, score in near]

    def saying(self, seen: Sequence[Head], asked: Sequence[str], limit: int) -> Near:
        best = self._words.best([version for _, version in seen], asked, limit)
        return [(self._ids[place], score) for place, score in best]


def _known(said: Mapping[str, Any]) -> _Known:
    ends = said.get("expires_at")
    return _Known(said["tenant"], said["record"], said["version"], said["index"], ends)


def _is_over(point: _Known, now: float) -> bool:
    return point.ends is not None and point.ends <= now


def _parts(vectors: Any) -> tuple[bytes, Weights]:
    """A point's vector, and what its words weigh."""
    named = vectors if isinstance(vectors, dict) else {"": vectors}
    dense = np.asarray(named[""], np.float32).tobytes()
    sparse = named.get(WORDS)
    weights = dict(zip(sparse.indices, sparse.values, strict=True)) if sparse else {}
    return dense, weights
