"""Measures small things against one another: in turns, so that a slow moment meets all of them."""

import importlib
import time
from collections.abc import Callable
from types import ModuleType

from bench.report import Spread

Variant = Callable[[], object]
Times = dict[str, list[float]]


def rounds(
    variants: dict[str, Variant], count: int, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Seconds of each variant in each round; `time.process_time` takes those of the processor."""
    times: Times = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(count):
        for name, run in variants.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def speedup(times: Times, ours: str, theirs: str) -> str:
    """How many times as fast ours is, taken round by round."""
    pairs = zip(times[theirs], times[ours], strict=True)
    return Spread.of([them / us for them, us in pairs]).told(2)


def package(name: str) -> ModuleType | None:
    """Whom we compare with: none of them is a dependency of ours."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
