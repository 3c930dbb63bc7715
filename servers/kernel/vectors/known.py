"""What a process knows of the records in a database that others write to, too.

Read when it is first wanted, and again when another process has left a mark of a change. Its own
changes are taken over without reading. Who leaves no marks, an older version of this program or a
hand, is heard of with the next reading, within a minute.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from servers.kernel.vectors.heads import Heads
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.word_table import WordTable

_TRUSTED: Final = 60.0  # seconds, after which all is read again
_MOST_KNOWN: Final = 200_000  # records, of all tenants

Marks: TypeAlias = Mapping[str, int]
ReadHeads: TypeAlias = Callable[[str], Awaitable[Sequence[Head]]]
Change: TypeAlias = Callable[[Heads], None]


class Others(Protocol):
    async def marks(self) -> Marks:
        """Of other processes; not the same after each acknowledged change of theirs."""
        ...


@dataclass(slots=True)
class Tenant:
    heads: Heads
    marks: Marks
    read_at: float
    reading: int  # which one it is of
    words: WordTable = field(default_factory=WordTable)


class Known:
    """`read`: all heads of a tenant, as they are in the database. `clock`: in seconds."""

    def __init__(self, read: ReadHeads, others: Others, clock: Callable[[], float]) -> None:
        self._read, self._others, self._clock = read, others, clock
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()
        self._reading = asyncio.Lock()
        self._meanwhile: list[tuple[str, Change]] = []  # our own changes during a reading
        self._forgotten = self._readings = 0

    async def tenant(self, name: str) -> Tenant:
        """With each change that was acknowledged before."""
        before = self._readings
        if known := self._fresh(name, await self._others.marks()):
            return known
        async with self._reading:
            while True:
                # One that began later has it all, however much is written all the time.
                if (read := self._tenants.get(name)) and read.reading > before:
                    return read
                # Before reading: what is written meanwhile leaves a mark that isn't in these.
                marks = await self._others.marks()
                if known := self._fresh(name, marks):
                    return known
                await self._read_again(name, marks)

    def _fresh(self, name: str, marks: Marks) -> Tenant | None:
        known = self._tenants.get(name)
        if known is None or known.marks != marks:
            return None
        if self._clock() - known.read_at > _TRUSTED:
            return None
        self._tenants.move_to_end(name)
        return known

    async def _read_again(self, name: str, marks: Marks) -> None:
        self._meanwhile.clear()
        self._readings += 1
        forgotten, began = self._forgotten, self._clock()
        heads = await asyncio.to_thread(Heads, await self._read(name))
        if forgotten != self._forgotten:
            return
        for tenant, change in self._meanwhile:
            if tenant == name:
                change(heads)
        known = self._tenants.pop(name, None)
        words = known.words if known else WordTable()
        self._tenants[name] = Tenant(heads, marks, began, self._readings, words)
        while len(self._tenants) > 1 and self._count() > _MOST_KNOWN:
            self._tenants.popitem(last=False)

    def _count(self) -> int:
        return sum(len(each.heads) for each in self._tenants.values())

    def change(self, name: str, change: Change) -> None:
        """One of our own, that is in the database."""
        if known := self._tenants.get(name):
            change(known.heads)
        if self._reading.locked():
            self._meanwhile.append((name, change))

    def forget(self, name: str | None = None) -> None:
        """What may not be as it is known: it is read again. None: of all tenants."""
        self._forgotten += 1
        if name is None:
            self._tenants.clear()
        else:
            self._tenants.pop(name, None)
