"""Conversations in each of the databases, asked in process and over the wire."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import grpc
from astromesh.memory.v1 import memory_service_pb2_grpc

from servers.domain.chat import Message, Role, Text, ToolCall, says
from servers.domain.memory import SessionKey
from servers.kernel.sqlite import open_database
from servers.kernel.status import StatusInterceptor
from servers.memory.adapters import sqlite
from servers.memory.adapters.postgres import open_postgres_conversations
from servers.memory.adapters.postgres_episodes import open_postgres_episodes
from servers.memory.adapters.redis import open_redis_conversations
from servers.memory.adapters.sqlite import SqliteConversations
from servers.memory.adapters.sqlite_episodes import SqliteEpisodes
from servers.memory.episodes import EpisodicMemory
from servers.memory.places import Places
from servers.memory.remote import RemoteMemory
from servers.memory.service import ConversationMemory
from servers.memory.servicer import MemoryServicer
from tests.patience import PATIENCE

START = 1_700_000_000.25
KEY = SessionKey("acme", "helper", "s1")
EXCHANGE = (says(Role.USER, "hello?"), says(Role.ASSISTANT, "hi!"))
CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "add", "{}"),))
RESULT = Message(Role.TOOL, (Text("4"),), tool_call_id="c1")
KINDS = ("sqlite", "redis", "postgres")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass
class Clock:
    """What time the memory service, SQLite and PostgreSQL go by; Redis has its own."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Database:
    """One that can be opened again and again."""

    kind: str
    where: str  # a folder, or an address
    clock: Clock = field(default_factory=Clock)
    prefix: str = field(default_factory=lambda: f"p{uuid4().hex[:8]}")
    patience: float = PATIENCE  # seconds that it waits for a server that is away

    @asynccontextmanager
    async def store(self):
        if self.kind == "sqlite":
            path = Path(self.where) / "memory.db"
            async with open_database(path, sqlite.MIGRATIONS, erasing=True) as database:
                yield SqliteConversations(database, self.clock)
        elif self.kind == "redis":
            conversations = open_redis_conversations(
                self.where, "a test", self.prefix, self.patience
            )
            async with conversations as store:
                yield store
        else:
            conversations = open_postgres_conversations(
                self.where, "a test", self.clock, self.patience
            )
            async with conversations as store:
                yield store

    @asynccontextmanager
    async def episodes(self):
        """In the same database, or, beside Redis, in a file."""
        if self.kind == "postgres":
            episodes = open_postgres_episodes(self.where, "a test", self.clock, self.patience)
            async with episodes as store:
                yield store
            return
        with TemporaryDirectory() as elsewhere:
            folder = self.where if self.kind == "sqlite" else elsewhere
            path = Path(folder) / "episodes.db"  # another one: of each there is one owner
            async with open_database(path, sqlite.MIGRATIONS, erasing=True) as database:
                yield SqliteEpisodes(database, self.clock)

    @asynccontextmanager
    async def memory(self, reached=None):
        here, happened = Places({}, lambda _: self.store()), Places({}, lambda _: self.episodes())
        async with here, happened:
            kept = ConversationMemory(here, EpisodicMemory(happened, self.clock), self.clock)
            async with (reached or in_process)(kept) as memory:
                yield memory


@asynccontextmanager
async def over_the_wire(memory):
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(MemoryServicer(memory), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteMemory(channel)
    await server.stop(None)


@asynccontextmanager
async def in_process(memory):
    yield memory


def numbered(count: int) -> list[Message]:
    return [says(Role.USER, str(n)) for n in range(count)]


def texts(context) -> list[str]:
    return [message.text for message in context.messages]


def indexes(page) -> list[int]:
    return [turn.index for turn in page.turns]
