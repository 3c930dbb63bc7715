"""Many texts in as few requests as a server takes: several at a time, under one deadline.

A server's limits are its own: each adapter says how many texts and how many characters
one request may have.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from servers.domain.chat import Usage
from servers.kernel.errors import InvalidInput
from servers.router.adapters.patience import Patience
from servers.router.ports import Embedded, Timeouts

AT_ONCE = 4  # requests of one call: the server is kept busy, other callers are not kept out
_CHARACTERS_PER_TOKEN = 4  # only where a provider counts nothing; marked as estimated

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the texts of a call, the first of which is number `start` there."""

    start: int
    texts: tuple[str, ...]


def batches(texts: Sequence[str], most: int, characters: int) -> list[Batch]:
    """At most `most` texts and `characters` in each. A text that is longer goes alone."""
    found: list[Batch] = []
    begun, size = 0, 0
    for at, text in enumerate(texts):
        if at > begun and (at - begun == most or size + len(text) > characters):
            found.append(Batch(begun, tuple(texts[begun:at])))
            begun, size = at, 0
        size += len(text)
    return [*found, Batch(begun, tuple(texts[begun:]))]


async def answers(
    parts: Sequence[Batch],
    send: Callable[[Batch], Awaitable[T]],
    endpoint: str,
    timeouts: Timeouts,
) -> list[T]:
    """One answer a batch, in order. The first failure ends the others, and so does leaving."""
    if len(parts) == 1:
        return [await send(parts[0])]
    patience, turn = Patience(timeouts), asyncio.Semaphore(AT_ONCE)

    async def one(part: Batch) -> T:
        async with turn:
            with _among(part):
                return await send(part)

    try:
        async with patience.whole(), asyncio.TaskGroup() as group:
            asked = [group.create_task(one(part)) for part in parts]
    except TimeoutError:
        raise patience.gone(endpoint, whole=True) from None
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [each.result() for each in asked]


def joined(found: Sequence[Embedded]) -> Embedded:
    """The vectors of all batches, and what they used together."""
    vectors = tuple(vector for each in found for vector in each.vectors)
    usage = found[0].usage
    for each in found[1:]:
        usage += each.usage
    return Embedded(vectors, usage, found[0].model)


def estimated(texts: Sequence[str], query: str = "") -> Usage:
    """What they may have used where a provider does not count. A query is read with each."""
    characters = sum(map(len, texts)) + len(query) * len(texts)
    return Usage(-(-characters // _CHARACTERS_PER_TOKEN), estimated=True)


@contextmanager
def _among(part: Batch) -> Iterator[None]:
    """Says which texts a refusal is about: the provider knows only those of its own request."""
    try:
        yield
    except InvalidInput as refused:
        where = f"texts {part.start} to {part.start + len(part.texts) - 1}"
        raise InvalidInput(f"{where}: {refused.message}", reason=refused.reason) from None
