"""Servers as child processes: started, awaited, watched, ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, writing to `log`, that is ended with SIGTERM, and if it must be with SIGKILL."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def instant_model(
    folder: Path, pieces: int = 1, gap: float = 0
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The model's port and process. `gap` is in milliseconds."""
    log = folder / f"model-{pieces}-{gap:g}.log"
    command = [sys.executable, "-m", "bench.instant_model", "--pieces", str(pieces)]
    with running([*command, "--gap", str(gap)], log) as process:
        until = time.monotonic() + 20
        while not (said := log.read_text()).endswith("\n"):
            _must_run(process, log, until)
        yield int(said), process


def await_ok(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Return when `url` answers 200; raise with the end of the log when it never does."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        _must_run(process, log, until)


def _must_run(process: subprocess.Popen[bytes], log: Path, until: float) -> None:
    if process.poll() is not None or time.monotonic() > until:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"a server of the benchmark did not start:\n{process.args!r}\n{tail}")
    time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time used so far by a process and its children, by the name of the program."""
    root = psutil.Process(pid)
    used: dict[str, float] = {}
    for process in (root, *root.children(recursive=True)):
        times = process.cpu_times()
        name = process.name()
        used[name] = used.get(name, 0.0) + times.user + times.system
    return used


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
