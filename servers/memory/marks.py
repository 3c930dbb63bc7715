"""What was erased, and when, so that what was said before isn't remembered after.

A text may be on its way to memory while it is erased: a run has left it to be learned, or a
call has it embedded. Who erases therefore leaves a mark first, and who remembers looks whether
there is one that is younger than the text. A mark is a hash: it names nobody.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, Protocol

import orjson

from servers.domain.semantic import Reader
from servers.kernel.errors import NotReady

KEPT: Final = 8 * 86_400.0  # seconds
OLDEST: Final = 7 * 86_400.0  # seconds since a text was said that can still be told to be erased


class Marks(Protocol):
    """Specification: tests/contract/test_marks.py."""

    async def put(self, marks: Sequence[bytes], at: float) -> None: ...

    async def newest(self, marks: Sequence[bytes]) -> float | None:
        """When the last one of them was put; None: none is there."""
        ...

    async def sweep(self, before: float) -> int:
        """Remove those put before. Returns how many."""
        ...


def of_principal(tenant: str, principal: str) -> bytes:
    return _hash("principal", tenant, principal)


def of_memories(reader: Reader, seen_by: Iterable[str], collection: str) -> list[bytes]:
    """Of those that came from his session, or of all, whoever sees them."""
    of = (collection, reader.tenant, reader.agent)
    return [_hash("memories", *of, whose, reader.session) for whose in seen_by]


async def check(
    marks: Marks, reader: Reader, seen_by: str, collection: str, said_at: float
) -> None:
    """Raises NotReady (PRINCIPAL_ERASED, MEMORIES_FORGOTTEN)."""
    anywhere = Reader(reader.tenant, reader.agent, reader.principal)
    his = [of_principal(reader.tenant, reader.principal)] if reader.principal else []
    theirs = [
        *of_memories(reader, [seen_by], collection),
        *of_memories(anywhere, [seen_by], collection),
    ]
    newest = await marks.newest([*his, *theirs])
    if newest is None or said_at > newest:
        return
    forgotten = await marks.newest(theirs)
    if forgotten is not None and said_at <= forgotten:
        raise NotReady(
            "it was said before the memories of its session, or all of them, were forgotten",
            reason="MEMORIES_FORGOTTEN",
            agent=reader.agent,
        )
    raise NotReady(
        "it was said before all that is kept of its principal was erased",
        reason="PRINCIPAL_ERASED",
        agent=reader.agent,
    )


def _hash(*names: str) -> bytes:
    return blake2b(orjson.dumps(names), digest_size=16).digest()
