"""What the memory service needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from servers.domain.chat import Message
from servers.domain.memory import SessionKey, Turn


class ConversationStore(Protocol):
    """Keeps conversations durably. Specification: tests/contract/test_memory.py.

    An unknown session is an empty one.
    """

    async def append(
        self, key: SessionKey, messages: Sequence[Message], run_id: str, at: float
    ) -> int:
        """Add to the end, all or nothing; nothing if `run_id` has written here before.

        Returns how many turns the session has then.
        """
        ...

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        """The first `limit` turns whose index is greater than `after`, oldest first."""
        ...

    async def newest(self, key: SessionKey, limit: int) -> tuple[Sequence[Turn], int]:
        """The last `limit` turns, oldest first, and how many there are in all."""
        ...

    async def clear(self, key: SessionKey) -> int:
        """Forget the session. Returns how many turns it had."""
        ...
