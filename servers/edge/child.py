"""One Envoy process: from its start to its end. Starting it again is for `servers.edge.envoy`."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from servers.edge.admin import Admin, open_admin
from servers.edge.output import FORMAT, Messages, tell_requests
from servers.edge.settings import EdgeSettings
from servers.kernel.errors import NotReady

_POLL = 0.02  # seconds between two looks at an Envoy that starts
_KILL_AFTER = 3.0  # seconds that SIGTERM may take
_TAKEN = re.compile(r"cannot bind '[^']*?:(?P<port>\d+)': (?P<why>[^`/|]+)")


class Child:
    """A running Envoy that takes calls. Made by `running`."""

    def __init__(
        self, process: asyncio.subprocess.Process, http_port: int, admin_port: int
    ) -> None:
        self._process, self.http_port, self.admin_port = process, http_port, admin_port

    @property
    def pid(self) -> int:
        return self._process.pid

    async def gone(self) -> int:
        """Wait for the end. Returns the exit status, negative for a signal."""
        return await self._process.wait()


@asynccontextmanager
async def running(
    binary: Path, config: Path, settings: EdgeSettings, ready_within: float = 15.0
) -> AsyncIterator[Child]:
    """Start Envoy on `config` and wait until it takes calls; leaving drains and stops it.

    Raises NotReady (PORT_IN_USE, EDGE_FAILED). Call it from the thread that lives as long
    as Envoy shall: Envoy asks the kernel to be ended with the thread that started it.
    """
    address = config.with_suffix(".admin")
    address.unlink(missing_ok=True)
    _forget_shared_memory(config)  # of a mesh that was killed
    messages = Messages()
    try:
        process = await _spawn(binary, config, address, settings)
    except OSError as error:
        raise _failed(f"can't be started ({error.strerror})", "") from error
    told = asyncio.gather(_requests(process), messages.tell(_stderr(process)))
    try:
        admin_port = await _admin_port(process, address, ready_within)
        async with open_admin(admin_port) as admin:
            http_port = await _public_port(process, admin, ready_within)
            messages.quiet = False
            try:
                yield Child(process, http_port, admin_port)
            finally:
                if process.returncode is None:
                    messages.quiet = True
                    await _drained(admin, settings.drain_seconds)
    except _NeverReady as error:
        await _end(process)
        await told
        raise _failed(str(error), messages.last()) from error
    finally:
        await _end(process)
        await told
        _forget_shared_memory(config)


class _NeverReady(Exception):
    """Envoy ended, or took too long, before it was ready. The text says which."""


async def _spawn(
    binary: Path, config: Path, address: Path, settings: EdgeSettings
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        binary,
        *("--config-path", str(config), "--admin-address-path", str(address)),
        *("--concurrency", str(settings.concurrency)),
        # Hot restart is never used, but without it Envoy would outlive a mesh that is killed.
        *("--use-dynamic-base-id", "--base-id-path", str(_base_id(config))),
        *("--log-level", "warning", "--log-format", FORMAT),
        *("--file-flush-interval-msec", "250"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C in a terminal reaches the whole process group, and Envoy would be gone
        # before the calls in flight are: it is for us to end it.
        start_new_session=True,
    )


async def _requests(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    await tell_requests(process.stdout)


def _stderr(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stderr is not None
    return process.stderr


async def _admin_port(process: asyncio.subprocess.Process, address: Path, within: float) -> int:
    async with _patience(within):
        while not (port := _told_port(address)):
            await _still_there(process)
    return port


async def _public_port(process: asyncio.subprocess.Process, admin: Admin, within: float) -> int:
    async with _patience(within):
        while not await admin.ready():
            await _still_there(process)
        return await admin.public_port()


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (TimeoutError, httpx.HTTPError) as error:
        raise _NeverReady(f"was not ready within {seconds:g} s") from error


def _told_port(address: Path) -> int:
    try:
        return int(address.read_text().rpartition(":")[2] or 0)
    except FileNotFoundError:
        return 0


async def _still_there(process: asyncio.subprocess.Process) -> None:
    """Let a moment pass."""
    try:
        status = await asyncio.wait_for(process.wait(), _POLL)
    except TimeoutError:
        return
    raise _NeverReady(f"ended with status {status}")


def _failed(why: str, said: str) -> NotReady:
    if taken := _TAKEN.search(said):
        return NotReady(
            f"can't listen on 127.0.0.1:{taken['port']} ({taken['why'].strip()}): stop what uses "
            "it, or choose another port with --http-port",
            reason="PORT_IN_USE",
            port=taken["port"],
        )
    return NotReady(f"Envoy {why}. Its last words: {said or 'none'}", reason="EDGE_FAILED")


async def _drained(admin: Admin, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await admin.drain()


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _KILL_AFTER)
    except TimeoutError:
        process.kill()
        await process.wait()


def _base_id(config: Path) -> Path:
    return config.with_suffix(".base-id")


def _forget_shared_memory(config: Path) -> None:
    """Remove what Envoy leaves behind for the next one of the same base id."""
    with suppress(FileNotFoundError, ValueError):
        base_id = int(_base_id(config).read_text())
        _base_id(config).unlink()
        Path(f"/dev/shm/envoy_shared_memory_{base_id * 10}").unlink()
