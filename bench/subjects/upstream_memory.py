"""Upstream's conversation memory: its MemoryManager over its three backends.

Runs in an environment of its own. What is done is what its engine does for an exchange: build the
context, fit it to a budget of tokens, keep both turns.
"""

import time
from datetime import UTC, datetime
from typing import Any

import uvloop
from astromesh.core.memory import ConversationTurn, MemoryManager
from astromesh.memory.backends.pg_conv import PGConversationBackend
from astromesh.memory.backends.redis_conv import RedisConversationBackend
from astromesh.memory.backends.sqlite_conv import SQLiteConversationBackend
from taking_orders import serve

TURNS = 20


class Memories:
    def __init__(self) -> None:
        self.backends: dict[str, Any] = {}
        self.managers: dict[tuple[str, str], MemoryManager] = {}

    async def open(self, sqlite: str, redis: str, postgres: str, strategies: list[str]) -> None:
        self.backends = {
            "sqlite": SQLiteConversationBackend(sqlite),
            "redis": RedisConversationBackend(redis),
            "postgres": PGConversationBackend(dsn=postgres),
        }
        for name, backend in self.backends.items():
            if name != "redis":
                await backend.initialize()
            for strategy in strategies:
                said = {"conversational": {"strategy": strategy, "max_turns": TURNS}}
                self.managers[name, strategy] = MemoryManager("bench", said, backend)

    async def fill(self, backend: str, session: str, texts: list[str]) -> None:
        for number, text in enumerate(texts):
            await self.backends[backend].save_turn(session, turn(number, text))
        await self.backends[backend].save_summary(session, "In short.")

    async def context(self, backend: str, session: str, strategy: str, tokens: int) -> list[float]:
        """Seconds, the second time, and how many turns there are to show."""
        manager = self.managers[backend, strategy]
        await manager.build_context(session, "?", tokens)
        began = time.perf_counter()
        found = await manager.build_context(session, "?", tokens)
        return [time.perf_counter() - began, len(found["conversation"])]

    async def append(self, backend: str, session: str, texts: list[str]) -> list[float]:
        manager = self.managers[backend, "sliding_window"]
        began = time.perf_counter()
        for number, text in enumerate(texts):
            await manager.persist_turn(session, turn(number, text))
        return [time.perf_counter() - began, len(texts)]


def turn(number: int, text: str) -> ConversationTurn:
    role = "assistant" if number % 2 else "user"
    return ConversationTurn(role, text, datetime.now(UTC), {}, 60)


if __name__ == "__main__":
    memories = Memories()
    uvloop.run(
        serve(
            {
                "open": memories.open,
                "fill": memories.fill,
                "context": memories.context,
                "append": memories.append,
            }
        )
    )
