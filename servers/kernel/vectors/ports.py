"""What a store of vectors promises. Specification: tests/contract/test_vector_stores.py.

A store keeps records, each of them a text in several points, for many tenants. It remembers
which model its vectors are of, and takes no others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Protocol

from servers.domain.embeddings import Vector
from servers.domain.rag import Scalar, Where
from servers.kernel.errors import InvalidInput, NotReady, Violation


@dataclass(frozen=True, slots=True)
class Space:
    """Vectors of different models can't be compared."""

    model: str
    dimension: int


NO_FILTER: Where = MappingProxyType({})
_MOST_FIELDS = 64  # of a filter


@dataclass(frozen=True, slots=True)
class Scope:
    """What is seen: of one tenant, what everybody may see and what `principal` may. None sees
    all, and is for the store's owner, not for callers. `now`: without records that are over by
    then; None sees these, too."""

    tenant: str
    principal: str | None = None
    now: float | None = None  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Record:
    """What points belong to: a document, say. One of the same tenant and id takes its place."""

    id: str
    title: str = ""
    uri: str = ""
    content_hash: str = ""
    points: int = 0
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    acl: tuple[str, ...] = ()  # principals; empty: everybody of the tenant
    updated_at: float = 0.0  # seconds since the epoch
    expires_at: float | None = None  # when it is over; None: never


@dataclass(frozen=True, slots=True)
class Point:
    """A part of a record's text. Its vector has length 1."""

    index: int  # from 0
    text: str
    start: int
    end: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class Found:
    record: Record
    index: int
    text: str
    start: int
    end: int
    similarity: float  # cosine
    vector: "Vector | None" = None  # where it was asked for


class VectorStore(Protocol):
    """One collection. Every call sees what was acknowledged before it.

    Raises Unavailable (STORE_UNAVAILABLE) where the database does not answer.
    """

    async def space(self) -> Space | None:
        """Whose vectors are kept; None before the first `prepare`."""
        ...

    async def prepare(self, space: Space) -> None:
        """Keep vectors of that model. Raises NotReady (EMBEDDING_MISMATCH) where the store
        keeps vectors of another one."""
        ...

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        """Store, in the place of what had that id. A crash leaves one or the other record.

        With `over`, only where that one is still there as it was read; False: it is not, and
        nothing is stored. Where the database has no transactions (Qdrant, Chroma), another
        process may come between looking and storing.
        """
        ...

    async def delete(self, tenant: str, *records: str) -> int:
        """Returns how many points there were. Their text is then in no file that this process
        writes itself, nor is that of a deletion that failed half way before: without any name,
        this alone. Raises Unavailable (STORAGE_BUSY) where that has to be asked for again."""
        ...

    async def sweep(self, now: float) -> int:
        """Delete what is over, of all tenants, as `delete` does. Returns how many records."""
        ...

    async def record(self, scope: Scope, record: str) -> Record | None: ...

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        """By id (in the order of its characters), those behind `after`."""
        ...

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        """The most similar ones first. What is out of scope doesn't take part."""
        ...

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        """Those that have any of the words, best by BM25 (`servers.kernel.vectors.words`) first;
        `similarity` is 0 there. What is out of scope is not counted either. Raises NotReady
        (WORDS_NOT_KEPT) where the collection was made before its backend kept words."""
        ...

    async def knows(self, tenant: str, key: str) -> bool:
        """Whether any record of the tenant has metadata of that name."""
        ...

    async def count(self, tenant: str) -> int:
        """How many points the tenant has."""
        ...


def unchanged(there: Record | None, read: Record) -> bool:
    """Whether a record is there as it was read."""
    if there is None:
        return False
    return (there.content_hash, there.uri, there.updated_at) == (
        read.content_hash,
        read.uri,
        read.updated_at,
    )


def check_space(kept: Space | None, wanted: Space, where: str) -> None:
    if kept is not None and kept != wanted:
        raise NotReady(
            f"{where} keeps vectors of {kept.model!r} ({kept.dimension} numbers), and these are "
            f"of {wanted.model!r} ({wanted.dimension}): name another collection and take the "
            "documents in again, or go back to that model",
            reason="EMBEDDING_MISMATCH",
            kept=f"{kept.model}/{kept.dimension}",
            got=f"{wanted.model}/{wanted.dimension}",
        )


def without_words(name: str) -> NotReady:
    return NotReady(
        f"collection {name!r} was made before words were kept in it, and can't be searched for "
        "them: name another collection and take the documents in again, or remove `hybrid`",
        reason="WORDS_NOT_KEPT",
        collection=name,
    )


def is_storable(text: str) -> bool:
    """PostgreSQL takes no NUL, and nobody half a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def check_value(place: str, value: Scalar) -> None:
    """Raises InvalidInput for what not every store can keep."""
    if isinstance(value, str) and not is_storable(value):
        raise wrong(place, "the text holds NUL, or half a character: remove it")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong(place, "the number has more than 64 bits: write it as a text")
    if isinstance(value, float) and not isfinite(value):
        raise wrong(place, f"{value} is no number")


def check_where(where: Where, here: str = "filter") -> None:
    """Raises InvalidInput for what no store can compare. `here`: the name of its field."""
    if len(where) > _MOST_FIELDS:
        raise wrong(here, f"{len(where)} fields are too many: {_MOST_FIELDS} at most")
    for key, value in where.items():
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            raise wrong(f"{here}.{key}", "the list is empty: name a value")
        if not all(isinstance(each, Scalar) for each in values):
            raise wrong(f"{here}.{key}", "expected a text, a number, true or false, or a list")
        check_value(here, key)
        for each in values:
            check_value(f"{here}.{key}", each)


def values_of(where: Where) -> list[tuple[str, tuple[Scalar, ...]]]:
    return [(key, v if isinstance(v, tuple) else (v,)) for key, v in where.items()]


def wrong(place: str, why: str) -> InvalidInput:
    return InvalidInput(f"{place}: {why}", violations=(Violation(place, why),))
