"""The mesh, watching itself: started by `bench.stages` in the place of `astromesh`.

    python -m bench.instrumented stages|profile OUT up [OPTION...]

`stages` wraps public seams with clocks. A coroutine is timed only while it runs, not while
it waits, and what it calls is taken off: the figures are work, and add up. `profile` runs
under cProfile. Both count CPU time of the thread, which other programs don't disturb, write
OUT when the mesh is stopped, and start afresh at SIGUSR1, so that starting and warming up
don't count.
"""

import cProfile
import functools
import importlib
import inspect
import os
import pstats
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from pathlib import Path
from time import thread_time
from typing import Any

import orjson

# stage -> where it enters: "module:name" or "module:Class.method"
STAGES = {
    "interceptors, servicer": ("servers.kernel.status:StatusInterceptor.wrap()",),
    "access log": ("servers.kernel.access:AccessInterceptor._tell",),
    "protobuf to values, values to protobuf": (
        "servers.agents.convert.requests:request_from",
        "servers.agents.convert.runs:run_to",
    ),
    "admission, waiting for the end": ("servers.agents.service:AgentRuntime.run",),
    "manifest, plan": (
        "servers.agents.catalogue.catalogue:Catalogue.runnable",
        "servers.agents.planning:Planner.plan",
    ),
    "prompt": ("servers.agents.prompts:Prompt.render",),
    "run: session, pattern, steps, end": ("servers.agents.runs.execution:Execution._drive",),
    "events": ("servers.agents.runs.record.journal:Journal.emit",),
    "store, on the loop": (
        "servers.agents.adapters.sqlite.runs:SqliteRuns.create",
        "servers.agents.adapters.sqlite.runs:SqliteRuns.append",
    ),
    "store, in its thread": ("servers.kernel.sqlite_thread:Workers._serve",),
    "router": ("servers.router.service:ModelRouter.stream",),
    "provider: request, lines, pieces": (
        "servers.router.adapters.openai.compat:OpenAICompat.stream",
    ),
    "HTTP client": (
        "httpx_aiohttp:AiohttpTransport.handle_async_request",
        "httpx_aiohttp.transport:AiohttpResponseStream.__aiter__",
    ),
}


class Clocks:
    """Seconds of own work by stage, and how often each was entered."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.entered: dict[str, int] = {}
        self._local = threading.local()
        self._inside = self._around = 0.0  # what a clock itself costs, its stage and its caller's
        self._calibrate()

    def _calibrate(self) -> None:
        times, began = 20_000, thread_time()
        for _ in range(times):
            self.run("", int)
        whole = (thread_time() - began) / times
        self._inside = self.spent[""] / times
        self._around = whole - self._inside
        self.reset()

    def reset(self, *_: object) -> None:
        self.spent.clear()
        self.entered.clear()

    def enter(self, stage: str) -> None:
        self.entered[stage] = self.entered.get(stage, 0) + 1

    def run(self, stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call `work`; what nested stages spend is theirs."""
        outer = getattr(self._local, "inner", 0.0)
        self._local.inner = 0.0
        began = thread_time()
        try:
            return work(*arguments)
        finally:
            took = thread_time() - began
            own = took - self._local.inner - self._inside
            self.spent[stage] = self.spent.get(stage, 0.0) + own
            self._local.inner = outer + took + self._around


class Timed:
    """A coroutine whose every turn is timed."""

    def __init__(self, clocks: Clocks, stage: str, work: Coroutine[Any, Any, Any]) -> None:
        self._clocks, self._stage, self._work = clocks, stage, work

    def __await__(self) -> Generator[Any, Any, Any]:
        send, argument = self._work.send, None
        while True:
            try:
                awaited = self._clocks.run(self._stage, send, argument)
            except StopIteration as end:
                return end.value
            try:
                send, argument = self._work.send, (yield awaited)
            except BaseException as error:  # thrown in by a cancellation
                send, argument = self._work.throw, error


class TimedStream:
    def __init__(self, clocks: Clocks, stage: str, items: AsyncGenerator[Any, None]) -> None:
        self._clocks, self._stage, self._items = clocks, stage, items

    def __aiter__(self) -> "TimedStream":
        return self

    async def __anext__(self) -> Any:
        return await Timed(self._clocks, self._stage, _coroutine(self._items.__anext__()))

    async def aclose(self) -> None:
        await Timed(self._clocks, self._stage, _coroutine(self._items.aclose()))


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable


def timed(clocks: Clocks, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def awaited(*arguments: Any, **named: Any) -> Any:
        clocks.enter(stage)
        return await Timed(clocks, stage, function(*arguments, **named))

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        clocks.enter(stage)
        made = clocks.run(stage, functools.partial(function, *arguments, **named))
        return TimedStream(clocks, stage, made) if hasattr(made, "__anext__") else made

    return awaited if inspect.iscoroutinefunction(function) else called


def instrument(clocks: Clocks) -> None:
    for stage, places in STAGES.items():
        for place in places:
            module_name, _, path = place.partition(":")
            *owners, name = path.removesuffix("()").split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module_name))
            function = getattr(owner, name)
            if path.endswith("()"):  # what it returns is the stage
                setattr(owner, name, _returning_timed(clocks, stage, function))
            else:
                setattr(owner, name, timed(clocks, stage, function))


def _returning_timed(
    clocks: Clocks, stage: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def replaced(*arguments: Any) -> Any:
        return timed(clocks, stage, function(*arguments))

    return replaced


def main() -> None:
    mode, out = sys.argv[1], Path(sys.argv[2])
    sys.argv = ["astromesh", *sys.argv[3:]]
    sys.path.insert(0, os.getcwd())
    from servers.cli.app import main as astromesh

    if mode == "profile":
        profile = cProfile.Profile(thread_time)
        signal.signal(signal.SIGUSR1, lambda *_: profile.clear())
        try:
            profile.runcall(astromesh)
        finally:
            pstats.Stats(profile).dump_stats(out)
        return
    clocks = Clocks()
    instrument(clocks)
    signal.signal(signal.SIGUSR1, clocks.reset)
    try:
        astromesh()
    finally:
        out.write_bytes(orjson.dumps({"spent": clocks.spent, "entered": clocks.entered}))


if __name__ == "__main__":
    main()
