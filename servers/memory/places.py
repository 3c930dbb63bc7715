"""Which stores there are, by name, and where what an agent remembers is.

A store is opened when it is first needed. That it can't be reached is the error of who
needs it, and is tried again the next time. One that nothing names any more is closed when it
has not been needed for long, and opened again for who does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

from servers.kernel.errors import AstromeshError, Unavailable
from servers.memory.names import wrong

S = TypeVar("S")
P = TypeVar("P")

DEFAULT: Final = "sqlite"
_BEFORE: Final = ":before-"  # in the name of what a name meant before
_UNUSED: Final = 900.0  # seconds: longer than anything that is done with a store
_CHOOSE: Final = ("host", "port", "dbname", "db", "options")  # of what may follow in an address


@dataclass(frozen=True, slots=True)
class Backend:
    """A database for what is remembered."""

    kind: str  # "sqlite", "redis", "postgres"
    url: str = field(default="", repr=False)  # may hold a password
    said_in: str = field(default="", compare=False)  # where people find it written

    @property
    def database(self) -> tuple[object, ...]:
        """Which one it is, whoever signs in and however it is spoken to."""
        parts = urlsplit(self.url)
        chosen = [each for each in parse_qsl(parts.query) if each[0] in _CHOOSE]
        return self.kind, parts.netloc.rpartition("@")[2], parts.path, *chosen


class Places(Generic[S]):
    """Of stores of one kind. `backends` are those of runtime.yaml. Closing it closes what was
    opened."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        opening: Callable[[Backend], AbstractAsyncContextManager[S]],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._shared = {DEFAULT: Backend(DEFAULT), **backends}
        self._own: dict[str, Backend] = {}  # of agents in files, by a name that nobody else has
        self._agents: dict[str, str] = {}  # in files: agent -> name
        self._opening, self._now = opening, now
        self._stacks: dict[Backend, AsyncExitStack] = {}
        self._open: dict[Backend, S] = {}
        self._asked: dict[Backend, float] = {}  # when somebody last did
        self._locks: dict[Backend, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with AsyncExitStack() as closing:
            for stack in self._stacks.values():
                closing.push_async_exit(stack)

    def take_files(self, own: Mapping[str, Backend], agents: Mapping[str, str]) -> None:
        """What agents in files say: the backends that are theirs alone, and who is where.

        Those of before stay known: what they have kept can still be asked for, and erased.
        """
        take_in(self._own, own, lambda backend: backend.database)
        self._agents |= agents

    async def store(self, name: str) -> S:
        """Raises InvalidInput for a name that nobody knows, Unavailable and others where it
        can't be reached."""
        backend = self._own.get(name) or self._shared.get(name)
        if backend is None:
            known = ", ".join(repr(each) for each in self._shared)
            raise wrong("backend", f"there is no {name!r} in spec.memory.backends; known: {known}")
        self._asked[backend] = self._now()
        if backend not in self._open:
            async with self._locks.setdefault(backend, asyncio.Lock()):
                if backend not in self._open:
                    self._open[backend] = await self._opened(name, backend)
        return self._open[backend]

    async def _opened(self, name: str, backend: Backend) -> S:
        stack = AsyncExitStack()
        try:
            store = await stack.enter_async_context(self._opening(backend))
        except AstromeshError:
            raise
        except (OSError, ValueError) as error:  # an address that makes no sense
            raise Unavailable(
                f"the backend {name!r} can't be used", reason="STORE_UNAVAILABLE"
            ) from error
        self._stacks[backend] = stack
        return store

    async def close_unused(self) -> None:
        """Those that neither runtime.yaml nor a file names as its own any more."""
        own = [each for name, each in self._own.items() if _BEFORE not in name]
        named, long_ago = {*self._shared.values(), *own}, self._now() - _UNUSED
        for backend in [each for each in self._open if each not in named]:
            if self._asked[backend] < long_ago:
                del self._open[backend]
                async with self._locks[backend]:  # who opens it again waits
                    await self._stacks.pop(backend).aclose()

    def names(self, agent: str = "") -> tuple[str, ...]:
        """Those where an agent may have something, the likeliest first; of no agent, all."""
        first = self._agents.get(agent, DEFAULT)
        mine = f"agent:{agent}"
        own = [
            each for each in self._own if not agent or each == mine or each.startswith(f"{mine}:")
        ]
        return tuple(dict.fromkeys((first, *self._shared, *own)))

    def of(self, agent: str) -> str:
        """Where an agent in a file keeps it; empty: no file says so."""
        return self._agents.get(agent, "")

    def opened(self) -> Sequence[tuple[str, S]]:
        """What kind of database each is, and the store."""
        return [(backend.kind, store) for backend, store in self._open.items()]


def take_in(known: dict[str, P], said: Mapping[str, P], where: Callable[[P], object]) -> None:
    """What a name meant before gets a name of its own, `agent:helper:before-1`, until the process
    ends: what is there can still be found and erased. `where` tells whether two are one place."""
    for name, place in said.items():
        mine = f"{name}{_BEFORE}"
        before = {key: each for key, each in known.items() if key.startswith(mine)}
        old = [*before.values(), *([known[name]] if name in known else [])]
        for key in before:
            del known[key]
        known[name] = place
        others = {where(each): each for each in old if where(each) != where(place)}
        known |= {f"{mine}{n}": each for n, each in enumerate(others.values(), 1)}
