"""Starts the process of a subject (`bench.subjects`) and gives it orders."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.callers import Result
from bench.processes import ROOT
from bench.subjects import Setup

_LONGEST = 64 << 20  # bytes of one result


class Subject:
    """Does one thing at a time. Made by `subject`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self._process, self._log = name, process, log

    async def load(self, callers: int, seconds: float, **more: Any) -> Result:
        """As many callers, each asking again when it is answered. Raises for a wrong answer."""
        found = await self._do(deed="load", callers=callers, seconds=seconds, **more)
        result = Result(**found)
        if result.wrong or not result.requests:
            raise SystemExit(f"{self.name}: {result.wrong} wrong answers: {result.complaint}")
        return result

    async def steady(self, rate: float, seconds: float) -> dict[str, Any]:
        """So many streamed requests a second, answered or not."""
        found: dict[str, Any] = await self._do(deed="steady", rate=rate, seconds=seconds)
        return found

    async def ready(self) -> None:
        await self._result()

    async def _do(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(order) + b"\n")
        return await self._result()

    async def _result(self) -> Any:
        assert self._process.stdout is not None
        if line := await self._process.stdout.readline():
            return orjson.loads(line)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{self.name} of the benchmark broke:\n{tail}")


@asynccontextmanager
async def subject(
    name: str, module: str, setup: Setup, folder: Path, python: Path | str = sys.executable
) -> AsyncIterator[Subject]:
    """`module` is one of bench.subjects; `python` the interpreter that has what it needs."""
    log = folder / f"{name}.log".replace(" ", "-")
    command = [str(python), "-m", "bench.subjects", module, orjson.dumps(setup).decode()]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            limit=_LONGEST,
        )
    try:
        started = Subject(name, process, log)
        await started.ready()
        yield started
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It goes when nobody can give it orders any more."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()
