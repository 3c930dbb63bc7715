"""Semantic memory over the real router with the model that every mesh has, and real stores."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from servers.domain.semantic import Hear, MemoryQuery, MemoryScope, Reader, Remembered
from servers.kernel.errors import InvalidInput
from servers.kernel.sqlite import open_database
from servers.kernel.vectors.stores import OpenStore, StorePlace, Stores, store_at
from servers.memory.adapters import sqlite
from servers.memory.adapters.sqlite_marks import SqliteMarks
from servers.memory.collections import CollectionPlace, Collections
from servers.memory.episodes import EpisodicMemory
from servers.memory.erasures import Erasures
from servers.memory.places import Places
from servers.memory.semantic import VectorMemory
from servers.memory.service import ConversationMemory
from tests.contract.memory_fixture import Clock, Database, in_process, over_the_wire

ADA = Reader("acme", "helper", "ada", "s1")
BOB = Reader("acme", "helper", "bob", "s1")
TEA = "The user drinks green tea in the morning."
BOAT = "The sailing boat is moored in Rotterdam."
AGENT, PRINCIPAL, SESSION = MemoryScope.AGENT, MemoryScope.PRINCIPAL, MemoryScope.SESSION
# Each backend once, and both ways to ask.
WAYS = {
    "faiss": in_process,
    "faiss, over the wire": over_the_wire,
    "pgvector": over_the_wire,
    "qdrant": in_process,
    "chroma": over_the_wire,
}


@dataclass
class Where:
    """A collection that can be opened again and again."""

    place: StorePlace
    folder: Path
    clock: Clock = field(default_factory=Clock)
    hearing: list[Hear] = field(default_factory=list)
    opening: OpenStore | None = None  # None: the real stores as they are

    @asynccontextmanager
    async def memory(self, router, reached=in_process, more=None):
        database = Database("sqlite", str(self.folder), self.clock)
        here, happened = (
            Places({}, lambda _: database.store()),
            Places({}, lambda _: database.episodes()),
        )
        path = self.folder / "marks.db"  # another one: of each there is one owner
        async with (
            here,
            happened,
            Stores(self.opening or store_at(self.folder)) as stores,
            open_database(path, sqlite.MIGRATIONS) as kept,
        ):
            erasures = Erasures(SqliteMarks(kept), self.clock, self.hearing)
            collections = Collections({"main": CollectionPlace(self.place), **(more or {})}, stores)
            collections.take_files({}, {"helper": "main"})
            semantic = VectorMemory(collections, router, self.clock, erasures)
            episodes = EpisodicMemory(happened, self.clock)
            whole = ConversationMemory(here, episodes, self.clock, semantic=semantic)
            async with reached(whole) as memory:
                yield memory


def where(backend: str, request, folder: Path) -> Where:
    address = request.getfixturevalue("postgres").schema() if backend == "pgvector" else ""
    return Where(StorePlace(backend, f"m{uuid4().hex[:12]}", address), folder)


def note(text: str, **more) -> Remembered:
    return Remembered(text, **more)


def asks(text: str, **more) -> MemoryQuery:
    return MemoryQuery(text, **more)


def texts(memories) -> list[str]:
    return [each.text for each in memories]


async def wrong_field(call) -> str:
    with pytest.raises(InvalidInput) as caught:
        await call
    return caught.value.violations[0].field
