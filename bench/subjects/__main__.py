"""The process of a subject: an order a line comes in, a result a line goes out."""

import asyncio
import gc
import importlib
import os
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

import orjson
import uvloop

from bench.callers import Callers
from bench.steady import Connects, steady
from bench.subjects import Asking, Setup


@dataclass(frozen=True, slots=True)
class Load:
    """As many callers as can be, each asking again when it is answered."""

    callers: int
    seconds: float
    stream: bool = False
    warmup: float = 0.3
    least: int = 1
    most: int = 1_000_000
    watched: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steady:
    """So many requests a second, answered or not."""

    rate: float
    seconds: float
    stream: bool = True


async def _load(asking: Asking, wanted: Load) -> Any:
    return await Callers(wanted, [asking(wanted.stream)] * wanted.callers).measured()


async def _steady(asking: Asking, wanted: Steady) -> Any:
    connects = Connects()
    calls = await steady(asking(wanted.stream), wanted.rate, wanted.seconds)
    return {"calls": calls, "connects": connects.seen}


async def _serve(name: str, setup: Setup, out: TextIO) -> None:
    module = importlib.import_module(f"bench.subjects.{name}")
    async with module.opened(setup) as asking:
        gc.collect()
        gc.freeze()  # what was imported need not be looked at again and again
        _say(out, {})
        while order := await asyncio.to_thread(sys.stdin.readline):
            wanted = orjson.loads(order)
            deed = wanted.pop("deed")
            does = _load(asking, Load(**wanted)) if deed == "load" else None
            _say(out, await (does or _steady(asking, Steady(**wanted))))


def _say(out: TextIO, what: Any) -> None:
    print(orjson.dumps(what).decode(), file=out, flush=True)


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print is no result
    uvloop.run(_serve(sys.argv[1], Setup(**orjson.loads(sys.argv[2])), out))


if __name__ == "__main__":
    main()
