"""Measures small things against one another: in turns, so that a slow moment meets all of them."""

import importlib
import time
from collections.abc import Callable
from types import ModuleType

from bench.report import Spread

Variant = Callable[[], object]
Times = dict[str, list[float]]


def rounds(variants: dict[str, Variant], count: int) -> Times:
    """Seconds of each variant in each round."""
    times: Times = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(count):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
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
