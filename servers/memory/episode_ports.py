"""What episodic memory needs from the outside."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from servers.domain.episodes import Episode, EpisodeFilter, RunTold

# In the order of time; of one moment, in that of writing.
Position: TypeAlias = tuple[float, int]
Numbered: TypeAlias = tuple[int, Episode]  # the number is the second half of its position


class EpisodeStore(Protocol):
    """Keeps episodes durably. Specification: tests/contract/test_episodes.py.

    What is over is not there.
    """

    async def record(self, told: RunTold) -> int:
        """Keep all or nothing: nothing where this attempt of the run has been told, or a later
        one. Returns how many are new."""
        ...

    async def add(self, tenant: str, episode: Episode) -> Episode:
        """Keep it, unless there is one of its id. Returns the one there is then."""
        ...

    async def page(
        self, asked: EpisodeFilter, before: Position | None, limit: int
    ) -> Sequence[Numbered]:
        """The newest that lie before a position."""
        ...

    async def get(self, tenant: str, agent: str, id: str) -> Episode | None: ...

    async def delete(self, asked: EpisodeFilter) -> int:
        """Returns how many there were."""
        ...

    async def remove(self, tenant: str, agent: str, id: str) -> bool:
        """Whether it was there."""
        ...

    async def of_principal(
        self, tenant: str, principal: str, after: int, limit: int
    ) -> Sequence[Numbered]:
        """His, in the order of writing, those behind a number."""
        ...

    async def erase(self, tenant: str, principal: str) -> int:
        """Forget them. Returns how many there were."""
        ...

    async def sweep(self) -> int:
        """Remove what is over. Returns how many."""
        ...
