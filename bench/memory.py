"""What an exchange and a prompt cost in conversations of 10 to 10,000 turns.

    python -m bench.memory [--rounds 60]

The memory service in this process, over SQLite, Redis (synced to disk with each write) and
PostgreSQL. For each length of a conversation: what each strategy shows of it, and appending an
exchange to another one, which grows by it. All take turns, round by round. Of 10 turns there
is less to show; beyond that what a prompt costs should not depend on the length.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import uvloop

from bench.report import Spread, table, write
from servers.domain.chat import Message, Role, says
from servers.domain.memory import Details, SessionKey, Strategy, Summary
from servers.kernel.sqlite import open_database
from servers.memory.adapters import sqlite
from servers.memory.adapters.opening import open_places
from servers.memory.places import Backend
from servers.memory.service import ConversationMemory
from tests.postgres_server import postgres_server
from tests.redis_server import redis_server

LENGTHS = (10, 100, 1_000, 10_000)
TOKENS = 60
BY = "p/m"
ROLLING = Strategy("summary", summary_threshold=20)
STRATEGIES = {
    "sliding_window": Strategy(max_turns=20),
    "token_budget": Strategy("token_budget", max_tokens=20 * TOKENS, counted_by=BY),
    "summary": ROLLING,
}

Times = dict[tuple[str, str, int], list[float]]  # backend, what, turns -> seconds


@asynccontextmanager
async def memory_over_all(folder: Path) -> AsyncIterator[ConversationMemory]:
    async with AsyncExitStack() as stack:
        options = ("--appendonly", "yes", "--appendfsync", "always")
        redis = await stack.enter_async_context(redis_server(folder, *options))
        postgres = stack.enter_context(postgres_server())
        path = folder / "memory.db"
        database = await stack.enter_async_context(
            open_database(path, sqlite.MIGRATIONS, erasing=True)
        )
        backends = {
            "redis": Backend("redis", redis.url),
            "postgres": Backend("postgres", postgres.schema()),
        }
        places = await stack.enter_async_context(open_places(database, backends, time.time))
        yield ConversationMemory(places)


def key(length: int, what: str = "read") -> SessionKey:
    return SessionKey("default", "agent", f"{what}-{length}")


def exchange(number: int) -> list[Message]:
    text = f"turn {number}: " + "a few words that are as long as people's are. " * 5
    return [says(Role.USER, text), says(Role.ASSISTANT, text)]


async def fill(memory: ConversationMemory, backend: str, length: int) -> None:
    for start in range(0, length, 1_000):
        pairs = range(start // 2, min(start + 1_000, length) // 2)
        messages = [each for number in pairs for each in exchange(number)]
        details = Details("ada", (TOKENS,) * len(messages), BY, backend=backend)
        for what in ("read", "written"):
            await memory.append(key(length, what), messages, "", details)
    while (backlog := await memory.backlog(key(length), ROLLING, backend)).turns:
        summary = Summary("In short.", backlog.turns[-1].index + 1, backlog.etag)
        await memory.summarise(key(length), summary, backend)


async def measure(memory: ConversationMemory, backends: Sequence[str], rounds: int) -> Times:
    times: Times = defaultdict(list)
    numbers = count()

    async def timed(where: tuple[str, str, int], work: Callable[[], Awaitable[object]]) -> None:
        started = time.perf_counter()
        await work()
        times[where].append(time.perf_counter() - started)

    for _ in range(rounds):
        for length in LENGTHS:
            for backend in backends:
                for name, strategy in STRATEGIES.items():
                    asked = (key(length), strategy, backend)
                    await timed((backend, name, length), lambda a=asked: memory.context(*a))  # type: ignore[misc]
                run = f"r{next(numbers)}"
                said = exchange(0), run, Details("ada", (TOKENS,) * 2, BY, backend=backend)
                await timed(
                    (backend, "append", length),
                    lambda s=said, n=length: memory.append(key(n, "written"), *s),  # type: ignore[misc]
                )
    return times


async def bench(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with memory_over_all(Path(folder)) as memory:
            backends = ("sqlite", "redis", "postgres")
            for backend in backends:
                for length in LENGTHS:
                    await fill(memory, backend, length)
            times = await measure(memory, backends, rounds)
    rows, kept = [], {}
    for backend in backends:
        for what in (*STRATEGIES, "append"):
            of = [Spread.of([t * 1000 for t in times[backend, what, n]]) for n in LENGTHS]
            growth = of[-1].median / of[1].median
            rows.append((backend, what, *(f"{s.median:.2f}" for s in of), f"{growth:.2f}"))
            kept[f"{backend}/{what}"] = dict(zip(map(str, LENGTHS), of, strict=True))
    columns = ("backend", "ms", *(f"{n:,} turns" for n in LENGTHS), "10,000 : 100")
    table(f"conversations, medians of {rounds} rounds", columns, rows)
    write("memory", kept)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    uvloop.run(bench(parser.parse_args(arguments).rounds))


if __name__ == "__main__":
    main()
