"""What work leaves behind in a process: for the garbage collector to find, or for good."""

import asyncio
import functools
import gc
import types
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Sizes: TypeAlias = dict[int, tuple[Any, int, str]]  # by id: what it is, its size, where it is

_GROWING = dict, list, set, deque
# What leads to everything else, says itself how much it keeps at most, or keeps timers that
# were cancelled until there are many.
_PASSED_BY = (
    *(types.ModuleType, type, types.CodeType),
    *(functools._lru_cache_wrapper, asyncio.AbstractEventLoop),
)


@contextmanager
def uncollected() -> Iterator[list[object]]:
    """Filled when it is left: the objects of ours that only the garbage collector finds."""
    found: list[object] = []
    gc.disable()
    gc.freeze()  # what is there already is not looked at
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [each for each in gc.garbage if type(each).__module__.startswith("servers.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def grown(before: Sizes, after: Sizes, by: int) -> list[str]:
    """What has at least so many members more than before."""
    return [
        f"{place}: {before[key][1]} -> {size}"
        for key, (_, size, place) in after.items()
        if key in before and size >= before[key][1] + by
    ]


def sizes(root: object) -> Sizes:
    """Of all that can be reached and may grow without a bound. It is held, so that no id comes
    twice."""
    found: Sizes = {}
    seen = {id(root): root}
    pending = [(root, type(root).__name__)]
    while pending:
        each, place = pending.pop()
        if isinstance(each, _GROWING) and getattr(each, "maxlen", None) is None:
            found[id(each)] = each, len(each), place
        for inner in _referents(each):
            if id(inner) not in seen and not isinstance(inner, _PASSED_BY):
                seen[id(inner)] = inner
                pending.append((inner, f"{place} > {type(inner).__name__}"))
    return found


def _referents(each: object) -> list[Any]:
    if isinstance(each, types.FunctionType):  # not its module
        return [*(each.__closure__ or ()), *(each.__defaults__ or ())]
    return gc.get_referents(each)
