"""What an outage of the first of two models costs, next to LiteLLM's Router.

    python -m bench.failover [--quick] [--outage 60] [--cooldown 60] [--rate 20] [--kinds hang]

Each subject has two models of its own and gets the same load at the same time: so many
streamed requests a second, answered or not. The first model goes out of order for a while.
Told is how often it was asked nevertheless, which errors callers saw, and how much later they
were answered: at the longest, and once the outage is known (a second after the first timeout).
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import litellm_package
from bench.choosing import with_part
from bench.outages import Outage, Server, serving
from bench.report import console, table, write
from bench.steady import Call
from bench.subject_process import Subject, subject
from bench.subjects import Setup

BEFORE, AFTER = 5.0, 5.0  # seconds of load around the outage
FIRST_TOKEN = 2.0  # seconds that each side waits for one
FAILURES = 3
COLUMNS = (
    *("", "asked in the outage", "errors", "p50 before", "added p50 once known"),
    *("added p99 once known", "longest"),
)
BUSY = 200.0  # milliseconds; who takes so long without an outage measures the machine


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    module: str
    python: Path | str
    options: dict[str, Any]  # of its Setup


@dataclass(frozen=True, slots=True)
class Seen:
    """Times in milliseconds. What is added is of calls that began once the outage was known."""

    asked: int
    errors: int
    before: float  # p50
    added_p50: float
    added_p99: float
    longest: float
    fault: str  # the first error


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument("--cooldown", type=float, default=60.0, help="seconds")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    kinds = [kind.name.lower() for kind in Outage]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--only", default="", help="subjects with this in their name")
    parser.add_argument("--quick", action="store_true", help="10 s, cooldown 4 s")
    parser.add_argument("--apart", action="store_true", help="one subject after the other")
    options = parser.parse_args(arguments)
    if options.quick:
        options.outage, options.cooldown = 10.0, 4.0
    found: dict[str, dict[str, Seen]] = {}
    for kind in options.kinds:
        outage, sides = Outage[kind.upper()], _sides(options)
        seen = found[outage.value] = {}
        for group in [[side] for side in sides] if options.apart else [sides]:
            seen |= asyncio.run(_measured(outage, group, options))
        _tell(outage, seen, options)
    write("failover", {"options": vars(options), "seen": found})


async def _measured(
    outage: Outage, wanted: list[Side], options: argparse.Namespace
) -> dict[str, Seen]:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            sides = [await _started(stack, side, Path(folder)) for side in wanted]
            for each, _ in sides:  # warm up: imports, caches, connections
                await each.load(4, 1.0, stream=True)
            seconds = BEFORE + options.outage + AFTER
            began = time.monotonic() + BEFORE
            async with asyncio.TaskGroup() as tasks:
                loads = [tasks.create_task(each.steady(options.rate, seconds)) for each, _ in sides]
                await asyncio.sleep(BEFORE)
                for _, primary in sides:
                    await primary.begin(outage)
                await asyncio.sleep(options.outage)
                ended = time.monotonic()
                for _, primary in sides:
                    await primary.end()
            pairs = zip(sides, loads, strict=True)
            return {
                each.name: _seen(load.result(), primary, outage, began, ended)
                for (each, primary), load in pairs
            }


def _sides(options: argparse.Namespace) -> list[Side]:
    known = {"failures": FAILURES, "cooldown": options.cooldown}
    sides = [Side("our router", "ours", sys.executable, known)]
    if python := litellm_package.installed():
        tuned = known | {"retries": 0}
        sides.append(Side("LiteLLM, as it comes", "litellm_router", python, {}))
        sides.append(Side("LiteLLM, configured", "litellm_router", python, tuned))
    else:
        console.print(litellm_package.SKIPPED)
    wanted = with_part(options.only, [side.name for side in sides])
    return [side for side in sides if side.name in wanted]


async def _started(stack: AsyncExitStack, side: Side, folder: Path) -> tuple[Subject, Server]:
    primary = await stack.enter_async_context(serving())
    fallback = await stack.enter_async_context(serving())
    setup = Setup(primary.port, fallback.port, first_token=FIRST_TOKEN, **side.options)
    process = subject(side.name, side.module, setup, folder, side.python)
    return await stack.enter_async_context(process), primary


def _seen(
    load: dict[str, Any], primary: Server, outage: Outage, began: float, ended: float
) -> Seen:
    calls = [Call(**each) for each in load["calls"]]
    asked = primary.seen
    if outage is Outage.REFUSED:  # only who tries to connect knows of it
        asked = [at for at, port in load["connects"] if port == primary.port]
    known = began + FIRST_TOKEN + 1.0
    before = _times(calls, began - BEFORE, began)
    during, open_ = _times(calls, began, ended), _times(calls, known, ended)
    faults = [call.fault for call in calls if call.fault]
    return Seen(
        sum(began <= at < ended for at in asked),
        len(faults),
        _part(before, 0.5),
        _part(open_, 0.5) - _part(before, 0.5),
        _part(open_, 0.99) - _part(before, 0.99),
        during[-1],
        faults[0] if faults else "",
    )


def _times(calls: list[Call], since: float, until: float) -> list[float]:
    """Milliseconds, sorted."""
    return sorted(each.seconds * 1e3 for each in calls if since <= each.began < until)


def _part(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


def _tell(outage: Outage, sides: dict[str, Seen], options: argparse.Namespace) -> None:
    rows = [
        (
            name,
            str(seen.asked),
            str(seen.errors),
            f"{seen.before:.1f} ms",
            f"{seen.added_p50:+.1f} ms",
            f"{seen.added_p99:+.1f} ms",
            f"{seen.longest:,.0f} ms",
        )
        for name, seen in sides.items()
    ]
    title = f"{outage.value}: {options.outage:g} s of it at {options.rate:g} requests a second"
    table(title, COLUMNS, rows)
    windows = int(options.outage / options.cooldown)
    console.print(
        f"goal: asked {FAILURES} times and once in each of at most {windows} further windows of "
        f"{options.cooldown:g} s;\nwhere it does not answer, those besides that are under way "
        f"when the first times out ({options.rate * FIRST_TOKEN:g})."
    )
    for name, seen in sides.items():
        if seen.before > BUSY:
            console.print(f"[red]{name}: too much for this machine even before the outage[/]")
        if seen.fault:
            console.print(f"{name}: {seen.fault[:300]}", highlight=False)


if __name__ == "__main__":
    main()
