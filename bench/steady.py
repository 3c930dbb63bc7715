"""So many requests a second, whether or not the earlier ones are answered."""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.callers import Ask


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `began` is on the clock that all processes of this machine share."""

    began: float
    seconds: float
    fault: str  # what is wrong with the answer; empty where nothing is


@dataclass(slots=True)
class Connects:
    """Whom this process tries to connect to, also where nobody listens: (when, port).

    Python tells its audit hooks of each connect that a Python socket makes. A hook stays
    until the process ends.
    """

    seen: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            self.seen.append((time.monotonic(), arguments[1][1]))


async def steady(ask: Ask, rate: float, seconds: float) -> list[Call]:
    calls: list[Call] = []

    async def one(number: int) -> None:
        began = time.monotonic()
        try:
            fault = await ask(f"question {number}")
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        calls.append(Call(began, time.monotonic() - began, fault))

    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(start + number / rate - time.monotonic())
            group.create_task(one(number))
    return calls
