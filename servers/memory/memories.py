"""Memories as records of a vector store, and which of them somebody finds.

A memory is a record with one point. Its text is the record's title, and its origins are JSON
in the record's `uri`, which nothing searches. What is searched is in the metadata, under keys
with a prefix each, so that no key of a client can be taken for one of ours: `user:KEY` for the
client's own, `by:PRINCIPAL` and `in:SESSION` for each origin, and `agent`, `seen_by`, `kind`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final
from unicodedata import normalize

import orjson

from servers.domain.embeddings import Vector
from servers.domain.rag import Scalar, Where
from servers.domain.semantic import Memory, MemoryScope, Origin, Reader, Remembered
from servers.kernel.vectors.ports import Found, Point, Record

MOST_ORIGINS: Final = 32  # that are kept of a memory, the newest ones
MOST_PARTS: Final = 256  # principals and sessions that can have a part in one
_USER, _BY, _IN = "user:", "by:", "in:"


def fingerprint(text: str) -> str:
    """The same for texts that differ in case, blanks and the form of their characters."""
    plain = " ".join(normalize("NFKC", text).casefold().split())
    return blake2b(plain.encode("utf-8", "replace"), digest_size=16).hexdigest()


def memory_id(agent: str, seen_by: str, text: str) -> str:
    """Who remembers the same at the same time writes the same record."""
    whose = orjson.dumps([agent, seen_by, fingerprint(text)])
    return f"m_{blake2b(whose, digest_size=12).hexdigest()}"


def another_id(taken: str, text: str) -> str:
    """For a text whose own id has gone to a memory that says something else by now."""
    return f"m_{blake2b(f'{taken} {text}'.encode('utf-8', 'replace'), digest_size=12).hexdigest()}"


# -- who finds what ------------------------------------------------------------------------


def seen_by(reader: Reader, scope: MemoryScope) -> str:
    """Who finds a memory of this scope that `reader` leaves."""
    if scope is MemoryScope.AGENT:
        return "agent"
    if scope is MemoryScope.SESSION:
        return orjson.dumps(["session", reader.principal, reader.session]).decode()
    return orjson.dumps(["principal", reader.principal]).decode()


def all_seen_by(reader: Reader) -> tuple[str, ...]:
    """Of all memories that he finds."""
    scopes = [MemoryScope.AGENT, MemoryScope.PRINCIPAL]
    scopes += [MemoryScope.SESSION] if reader.session else []
    return tuple(seen_by(reader, scope) for scope in scopes)


def finds(reader: Reader, where: Where, session: str = "") -> Where:
    """The condition under which he finds a memory. `session`: only what came from it."""
    theirs: dict[str, Scalar | tuple[Scalar, ...]] = {
        "agent": reader.agent,
        "seen_by": all_seen_by(reader),
    }
    if session:
        theirs[f"{_IN}{session}"] = True
    return theirs | {f"{_USER}{key}": value for key, value in where.items()}


def is_his(reader: Reader, record: Record) -> bool:
    """Whether he may name a memory by its id: one that he finds, in whichever session."""
    if record.metadata["agent"] != reader.agent:
        return False
    whose = str(record.metadata["seen_by"])
    return whose == "agent" or orjson.loads(whose)[1] == reader.principal


def finds_the_same(reader: Reader, scope: MemoryScope) -> Where:
    """The condition under which a memory may be the same as one that he leaves."""
    return {"agent": reader.agent, "seen_by": seen_by(reader, scope)}


def had_a_part(principal: str) -> Where:
    return {f"{_BY}{principal}": True}


def user_key(key: str) -> str:
    return f"{_USER}{key}"


# -- to and fro ----------------------------------------------------------------------------


def created(reader: Reader, remembered: Remembered, origin: Origin, collection: str) -> Memory:
    return Memory(
        memory_id(reader.agent, seen_by(reader, remembered.scope), remembered.text),
        remembered.text,
        reader.agent,
        remembered.scope,
        remembered.kind or "note",
        dict(remembered.metadata),
        (origin,),
        origin.at,
        origin.at,
        collection,
        expires_at=origin.at + remembered.ttl if remembered.ttl else None,
    )


def merged(memory: Memory, remembered: Remembered, origin: Origin) -> Memory:
    """What was said last holds: of two that are nearly the same one may be a correction."""
    ttl = _ttl_of(memory) if remembered.ttl is None else remembered.ttl
    at = max(origin.at, memory.updated_at)
    return replace(
        memory,
        text=remembered.text,
        kind=remembered.kind or memory.kind,
        metadata={**memory.metadata, **remembered.metadata},
        origins=(*memory.origins, origin)[-MOST_ORIGINS:],
        updated_at=at,
        expires_at=at + ttl if ttl else None,
    )


def _ttl_of(memory: Memory) -> float:
    return memory.expires_at - memory.updated_at if memory.expires_at else 0.0


def record_of(memory: Memory, whose: str, parts: Mapping[str, Scalar]) -> Record:
    """`whose`: its `seen_by`. `parts`: who had a part in it before."""
    keys = [key for each in memory.origins for key in _part(each.principal, each.session)]
    metadata: dict[str, Scalar] = {
        "agent": memory.agent,
        "seen_by": whose,
        "kind": memory.kind,
        "created_at": memory.created_at,
        **parts,
        **dict.fromkeys(keys, True),
        **{f"{_USER}{key}": value for key, value in memory.metadata.items()},
    }
    origins = [[each.principal, each.session, each.run_id, each.at] for each in memory.origins]
    return Record(
        memory.id,
        memory.text,
        orjson.dumps(origins).decode(),
        fingerprint(memory.text),
        1,
        metadata,
        updated_at=memory.updated_at,
        expires_at=memory.expires_at,
    )


def parts_of(record: Record) -> dict[str, Scalar]:
    """Who had a part in it, and sessions, also those whose origins are not kept any more."""
    return {key: True for key in record.metadata if key.startswith((_BY, _IN))}


def has_room_for(record: Record, reader: Reader) -> bool:
    """Whether he can have a part in it. Whoever has one can erase it, so none is given up."""
    known = parts_of(record)
    return len(known.keys() | set(_part(reader.principal, reader.session))) <= MOST_PARTS


def _part(principal: str, session: str) -> list[str]:
    return [f"{_BY}{principal}"] * bool(principal) + [f"{_IN}{session}"] * bool(session)


def points_of(memory: Memory, vector: Vector) -> Sequence[Point]:
    return [Point(0, memory.text, 0, len(memory.text), vector)]


def memory_from(record: Record, collection: str, similarity: float = 0.0) -> Memory:
    said: Mapping[str, Any] = record.metadata
    whose = str(said["seen_by"])
    scope = MemoryScope.AGENT if whose == "agent" else MemoryScope(orjson.loads(whose)[0])
    return Memory(
        record.id,
        record.title,
        str(said["agent"]),
        scope,
        str(said["kind"]),
        {key.removeprefix(_USER): v for key, v in said.items() if key.startswith(_USER)},
        tuple(Origin(*each) for each in orjson.loads(record.uri)),
        float(said["created_at"]),
        record.updated_at,
        collection,
        similarity,
        record.expires_at,
    )


def found_from(found: Found, collection: str) -> Memory:
    return memory_from(found.record, collection, found.similarity)
