"""Ports for servers that others are told of before they listen, or that come back to theirs."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

_FOLDER = Path(tempfile.gettempdir()) / "astromesh-test-ports"
_LOWEST, _HIGHEST = 15_000, 32_000
_taken: list[IO[bytes]] = []  # locked until this process ends


def free_port() -> int:
    """One that nobody else gets meanwhile.

    A port that the system chose and that was let go again may be somebody's a moment later. So
    it is one below those that systems choose from, and all processes that run these tests
    agree on whose it is by a file each.
    """
    _FOLDER.mkdir(exist_ok=True)
    while True:
        port = random.randrange(_LOWEST, _below_those_of_the_system())
        lock = (_FOLDER / str(port)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:
            lock.close()
        else:
            _taken.append(lock)
            return port


def _below_those_of_the_system() -> int:
    said = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(said.read_text().split()[0]) if said.exists() else _HIGHEST
    return lowest if lowest > _LOWEST + 1000 else _HIGHEST
