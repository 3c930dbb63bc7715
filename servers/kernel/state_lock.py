"""Who may write below the state folder: one process per file, and only where the disk lets it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.kernel.errors import AstromeshError, Exhausted, NotReady


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` for this process; the folder is made where it is missing.

    The lock is on a file beside it, because SQLite's own locks are lost when anybody in
    this process closes the database file. The system frees it when the process dies.
    """
    lock = _open_lock(path)
    try:
        _seize(lock, path)
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from error


def unwritable(path: Path, why: str) -> NotReady:
    return NotReady(
        f"cannot write {str(path)!r} ({why}): make the folder writable, "
        "or choose another one with --state",
        reason="STATE_NOT_WRITABLE",
        folder=str(path.parent),
    )


def _seize(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as taken:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise NotReady(
            f"the state folder {str(path.parent)!r} is in use by process {holder} "
            f"({path.name}): stop it, or choose another folder with --state",
            reason="STATE_IN_USE",
            folder=str(path.parent),
        ) from taken
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _refused(path: Path, error: OSError) -> AstromeshError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Exhausted(
            f"cannot make {str(path)!r}: make room on that disk",
            reason="DISK_FULL",
            folder=str(path.parent),
        )
    return unwritable(path, os.strerror(error.errno or 0))
