"""What an exchange and a prompt cost in conversations of 10 to 10,000 turns.

    python -m bench.memory [--rounds 60]

The memory service in this process, over SQLite, Redis (synced to disk with each write) and
PostgreSQL. For each length of a conversation: what each strategy shows of it, and appending an
exchange to another one, which grows by it. All take turns, round by round. Of 10 turns there
is less to show; beyond that what a prompt costs should not depend on the length.

Beside it upstream's MemoryManager in an environment of its own, on the same servers (a database
and a file of its own), with the same turns and as many of them to show. It knows the same three
strategies, and estimates tokens where ours counts them. Each side reads twice, and the second
time counts: how long a process takes to get going that has waited for the other is not compared.
"""

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import quantiles

import uvloop

from bench.orders import Peer, peer
from bench.report import Spread, table, write
from bench.upstream import stores_peer
from servers.domain.chat import Message, Role, says
from servers.domain.memory import Details, SessionKey, Strategy, Summary
from servers.kernel.ids import new_id
from servers.kernel.sqlite import open_database
from servers.memory.adapters import sqlite
from servers.memory.adapters.opening import open_episode_places, open_places
from servers.memory.episodes import EpisodicMemory
from servers.memory.places import Backend
from servers.memory.service import ConversationMemory
from tests.postgres_server import postgres_server
from tests.redis_server import redis_server

BACKENDS = ("sqlite", "redis", "postgres")
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


@dataclass(frozen=True, slots=True)
class Sides:
    ours: ConversationMemory
    theirs: Peer | None


@asynccontextmanager
async def sides(folder: Path) -> AsyncIterator[Sides]:
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
        happened = await stack.enter_async_context(
            open_episode_places(database, backends, time.time)
        )
        memory = ConversationMemory(places, EpisodicMemory(happened, time.time, new_id))
        theirs = upstreams(folder, redis.url, postgres.libpq())
        yield Sides(memory, await stack.enter_async_context(theirs))


def key(length: int, what: str = "read") -> SessionKey:
    return SessionKey("default", "agent", f"{what}-{length}")


def exchange(number: int) -> list[Message]:
    text = text_of(number)
    return [says(Role.USER, text), says(Role.ASSISTANT, text)]


def text_of(number: int) -> str:
    return f"turn {number}: " + "a few words that are as long as people's are. " * 5


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


@asynccontextmanager
async def upstreams(folder: Path, redis: str, postgres: str) -> AsyncIterator[Peer | None]:
    python = await asyncio.to_thread(stores_peer)
    if python is None:
        yield None
        return
    async with peer(python, "upstream_memory", folder) as theirs:
        where = {"sqlite": str(folder / "upstream.db"), "redis": redis, "postgres": postgres}
        await theirs.do(deed="open", strategies=[*STRATEGIES], **where)
        for backend in BACKENDS:
            for length in LENGTHS:
                texts = [text_of(number // 2) for number in range(length)]
                for session in {f"of-{length}", written(length)}:
                    await theirs.do(deed="fill", backend=backend, session=session, texts=texts)
        yield theirs


def written(length: int) -> str:
    """The session of theirs that grows. A long one may also be read: it has enough to show."""
    return f"of-{length}" if length > 20 else f"written-{length}"


async def measure_theirs(theirs: Peer, backend: str, length: int, times: Times) -> None:
    for strategy in STRATEGIES:
        where = {"backend": backend, "session": f"of-{length}", "strategy": strategy}
        took, shown = await theirs.do(deed="context", tokens=20 * TOKENS + 20, **where)
        assert shown == min(length, 20), (strategy, length, shown)
        times[backend, strategy, length].append(took)
    said = {"backend": backend, "session": written(length), "texts": [text_of(0)] * 2}
    took, _ = await theirs.do(deed="append", **said)
    times[backend, "append", length].append(took)


async def measure_ours(
    memory: ConversationMemory, backend: str, length: int, number: int, times: Times
) -> None:
    async def timed(what: str, work: Awaitable[object]) -> None:
        started = time.perf_counter()
        await work
        times[backend, what, length].append(time.perf_counter() - started)

    for name, strategy in STRATEGIES.items():
        await memory.context(key(length), strategy, backend)
        await timed(name, memory.context(key(length), strategy, backend))
    details = Details("ada", (TOKENS,) * 2, BY, backend=backend)
    said = exchange(0), f"r{number}", details
    await timed("append", memory.append(key(length, "written"), *said))


async def measure(both: Sides, rounds: int) -> tuple[Times, Times]:
    ours: Times = defaultdict(list)
    theirs: Times = defaultdict(list)
    numbers = count()
    for _ in range(rounds):
        for length in LENGTHS:
            for backend in BACKENDS:
                await measure_ours(both.ours, backend, length, next(numbers), ours)
                if both.theirs is not None:
                    await measure_theirs(both.theirs, backend, length, theirs)
    return ours, theirs


def show(times: Times, rounds: int) -> dict[str, dict[str, Spread]]:
    rows, kept = [], {}
    for backend in BACKENDS:
        for what in (*STRATEGIES, "append"):
            of = [Spread.of([t * 1000 for t in times[backend, what, n]]) for n in LENGTHS]
            growth = of[-1].median / of[1].median
            rows.append((backend, what, *(f"{s.median:.2f}" for s in of), f"{growth:.2f}"))
            kept[f"{backend}/{what}"] = dict(zip(map(str, LENGTHS), of, strict=True))
    columns = ("backend", "ms", *(f"{n:,} turns" for n in LENGTHS), "10,000 : 100")
    table(f"conversations, medians of {rounds} rounds", columns, rows)
    return kept


def show_ratios(ours: Times, theirs: Times) -> None:
    """Round by round; the middle half of them, as single syncs of a disk can take ages."""
    rows = []
    for backend in BACKENDS:
        for what in (*STRATEGIES, "append"):
            told = []
            for n in LENGTHS:
                pairs = zip(theirs[backend, what, n], ours[backend, what, n], strict=True)
                low, middle, high = quantiles([them / us for them, us in pairs], n=4)
                told.append(Spread(middle, low, high).told(2))
            rows.append((backend, what, *told))
    columns = ("backend", "what", *(f"{n:,} turns" for n in LENGTHS))
    table("upstream, times as long as ours (the middle half of the rounds)", columns, rows)


async def bench(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with sides(Path(folder)) as both:
            for backend in BACKENDS:
                for length in LENGTHS:
                    await fill(both.ours, backend, length)
            ours, theirs = await measure(both, rounds)
    kept = {"ours": show(ours, rounds)}
    if theirs:
        kept["upstream"] = show(theirs, rounds)
        show_ratios(ours, theirs)
    write("memory", kept)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    uvloop.run(bench(parser.parse_args(arguments).rounds))


if __name__ == "__main__":
    main()
