"""Callers that ask again as soon as they are answered, and what they measure.

Needs nothing of the mesh, so that it runs in any environment that has orjson and psutil.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import psutil

from bench.processes import cpu_seconds

Ask = Callable[[str], Awaitable[str]]  # question -> what is wrong with the answer


class Wanted(Protocol):
    @property
    def seconds(self) -> float: ...

    @property
    def warmup(self) -> float:
        """Seconds before the measurement."""
        ...

    @property
    def least(self) -> int:
        """Requests: where they take long, so do we."""
        ...

    @property
    def most(self) -> int: ...

    @property
    def watched(self) -> Mapping[str, int]:
        """Name -> process whose CPU is counted."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    requests: int
    wrong: int
    seconds: float
    p50: float  # milliseconds
    p99: float
    cpu: dict[str, float]  # seconds of CPU, by "name/program"; "client" is this process,
    # and "machine" is everything on it, the measurement included
    complaint: str = ""  # the first wrong answer

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Callers:
    """One caller for each of `asks`."""

    def __init__(self, wanted: Wanted, asks: Sequence[Ask]) -> None:
        self._wanted = wanted
        self._asks = asks
        self._measuring = False
        self._stopped = False
        self._few, self._enough = asyncio.Event(), asyncio.Event()
        self._waits: list[float] = []
        self._wrong = 0
        self._complaint = ""

    async def measured(self) -> Result:
        wanted = self._wanted
        async with asyncio.TaskGroup() as group:
            for number, ask in enumerate(self._asks):
                group.create_task(self._caller(number, ask))
            await asyncio.sleep(wanted.warmup)
            self._measuring, began, used = True, time.perf_counter(), _cpu(wanted)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), wanted.seconds)
            await self._few.wait()
            self._measuring, seconds, spent = False, time.perf_counter() - began, _cpu(wanted)
            self._stopped = True
        waits = sorted(self._waits) or [0.0]
        return Result(
            len(self._waits),
            self._wrong,
            seconds,
            waits[len(waits) // 2] * 1e3,
            waits[len(waits) * 99 // 100] * 1e3,
            {name: round(spent[name] - used.get(name, 0.0), 3) for name in spent},
            self._complaint,
        )

    async def _caller(self, number: int, ask: Ask) -> None:
        asked = 0
        while not self._stopped:
            asked += 1
            began = time.perf_counter()
            fault = await ask(f"question {number}-{asked}")
            if fault:
                self._wrong += 1
                self._complaint = self._complaint or fault
                await asyncio.sleep(0.01)  # an error must not be a fast answer
            elif self._measuring:
                self._waits.append(time.perf_counter() - began)
            self._count()

    def _count(self) -> None:
        done = len(self._waits) + self._wrong
        if done >= self._wanted.least:
            self._few.set()
        if done >= self._wanted.most:
            self._enough.set()


def _cpu(wanted: Wanted) -> dict[str, float]:
    times = os.times()
    everything = psutil.cpu_times()
    machine = sum(everything) - everything.idle - getattr(everything, "iowait", 0.0)
    used = {"client": times.user + times.system, "machine": machine}
    for name, pid in wanted.watched.items():
        for program, seconds in cpu_seconds(pid).items():
            used[f"{name}/{program}"] = seconds
    return used
