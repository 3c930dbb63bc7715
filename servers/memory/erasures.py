"""Keeps what is erased from being written again: by marks, and by taking turns."""

from collections.abc import Callable, Iterable, Sequence
from weakref import WeakValueDictionary

from servers.domain.semantic import Erasure, Hear, Reader, Remembered
from servers.kernel.vectors.stores import StorePlace
from servers.memory import marks
from servers.memory.names import wrong
from servers.memory.shared_lock import SharedLock


class Erasures:
    """`hearing`: who is told what is erased before that is acknowledged."""

    def __init__(
        self, kept: marks.Marks, now: Callable[[], float], hearing: Sequence[Hear] = ()
    ) -> None:
        self._kept, self._now, self._hearing = kept, now, hearing
        self._locks: WeakValueDictionary[tuple[StorePlace, str], SharedLock] = WeakValueDictionary()

    def lock(self, place: StorePlace, tenant: str) -> SharedLock:
        """Shared by those who write: what they write may be one that is erased. Gone when nobody
        holds it."""
        return self._locks.setdefault((place, tenant), SharedLock())

    def said_at(self, remembered: Remembered) -> float:
        """Raises InvalidInput where nobody knows any more whether it has been erased since."""
        now = self._now()
        said_at = now if remembered.said_at is None else min(remembered.said_at, now)
        if now - said_at > marks.OLDEST:
            days = marks.OLDEST / 86_400
            raise wrong("said_time", f"whether that has been erased is known for {days:.0f} days")
        return said_at

    async def check(self, reader: Reader, seen_by: str, collection: str, said_at: float) -> None:
        """Raises NotReady (PRINCIPAL_ERASED, MEMORIES_FORGOTTEN)."""
        await marks.check(self._kept, reader, seen_by, collection, said_at)

    # -- before anything is deleted --------------------------------------------------------

    async def of_principal(self, tenant: str, principal: str) -> None:
        mark = marks.of_principal(tenant, principal)
        await self._begin([mark], Erasure(tenant, principal))

    async def of_memories(
        self, reader: Reader, seen_by: Sequence[str], collections: Iterable[str]
    ) -> None:
        """Of those that came from his session, or of all, whoever sees them. `collections`: all
        names of the one that they are in."""
        erasure = Erasure(reader.tenant, reader.principal, reader.agent, reader.session)
        these = [mark for name in collections for mark in marks.of_memories(reader, seen_by, name)]
        await self._begin(these, erasure)

    async def _begin(self, these: Sequence[bytes], erasure: Erasure) -> None:
        await self._kept.put(these, self._now())
        for hear in self._hearing:
            await hear(erasure)

    async def sweep(self) -> None:
        """Remove marks of which everything is older that can still be remembered."""
        await self._kept.sweep(self._now() - marks.KEPT)
