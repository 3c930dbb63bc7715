"""Scripts of `bench/subjects` that are given orders as JSON lines, and answer each with one."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.processes import ROOT


class Peer:
    """Does one thing at a time. Made by `peer`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log = process, log

    async def do(self, **order: Any) -> Any:
        return await asyncio.to_thread(self._do, order)

    def _do(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(order) + b"\n")
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            return orjson.loads(line)
        raise SystemExit(f"a peer broke:\n{self._log.read_text(errors='replace')[-2000:]}")


@asynccontextmanager
async def peer(python: Path, script: str, folder: Path) -> AsyncIterator[Peer]:
    log = folder / f"{script}.log"
    command = [python, ROOT / "bench" / "subjects" / f"{script}.py"]
    pipe = subprocess.PIPE
    with log.open("wb") as errors:
        process = await asyncio.to_thread(
            subprocess.Popen, command, stdin=pipe, stdout=pipe, stderr=errors, cwd=folder
        )
    try:
        yield Peer(process, log)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it goes when nobody can give it orders any more
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
