"""One SQLite file, owned by one process: durable writes that share their disk syncs, and reads.

All writes go through one thread. Whatever was asked for while the last commit ran is
committed together, so that many callers pay for one sync; each of them hears back only
after that sync. What the SQL means is the caller's business.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from servers.kernel.errors import AstromeshError, DataLost, Exhausted, NotReady, Unavailable
from servers.kernel.sqlite_pages import scrub
from servers.kernel.sqlite_thread import Outcome, Work, Workers, attempt
from servers.kernel.state_lock import exclusive, unwritable

T = TypeVar("T")

_TOGETHER = 256  # writes in one commit at most: bounds how long the first of them waits
_BUSY = 5_000  # milliseconds that SQLite waits for a lock
_WRITING_OUT = 20  # the same, for those who read an old view; nobody writes meanwhile
_PAGES = 1 << 14  # that are wiped at once: others want to write in between
_READERS_GET = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)  # seconds to come to an end, between two tries


class Database:
    """Made by `open_database`.

    `work` runs in another thread, in a transaction: it must not commit, nor touch
    anything but its connection. Its exceptions reach the caller; what it wrote is
    then undone, and other callers' work is not affected.
    """

    def __init__(self, writer: Workers, readers: Workers) -> None:
        self._writer, self._readers = writer, readers
        self._wiping = asyncio.Lock()
        self._asked = self._wiped = 0  # wipes

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` and return its result once it is on disk.

        `work` may be run twice (the second time on an undone first). A caller that is
        cancelled while it waits leaves the write to happen; order is that of the calls.
        """
        return await self._writer.submit(work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one unchanging view of the data, with all finished writes in it."""
        return await self._readers.submit(work)

    async def write_out(self) -> None:
        """Bring all finished writes into the file and empty the log, which has older pages.

        With `erasing`, what was removed before is then in no file any more, but for copies of
        some rows that SQLite has moved. Others write between two tries. Raises Unavailable
        (STORAGE_BUSY) where somebody reads an old view for a second and more.
        """
        await self._tried(_write_out)

    async def wipe(self) -> None:
        """As `write_out`, and leave none of these copies either, of what was removed before. It
        looks at the whole file, a second or two for each gigabyte; others write in between."""
        self._asked += 1
        mine = self._asked
        async with self._wiping:
            if self._wiped >= mine:  # by one who began after this was asked for
                return
            asked, first = self._asked, 1
            while first:
                first = await self._tried(_Wipe(first))
            self._wiped = asked

    async def _tried(self, work: Callable[[sqlite3.Connection], int | None]) -> int:
        for pause in _READERS_GET:
            if (done := await self._writer.submit(work)) is not None:
                return done
            await asyncio.sleep(pause)
        if (done := await self._writer.submit(work)) is not None:
            return done
        raise Unavailable(
            "somebody reads what was removed: ask again", reason="STORAGE_BUSY", retry_after=1.0
        )


@asynccontextmanager
async def open_database(
    path: Path,
    migrations: Sequence[str] = (),
    *,
    readers: int = 2,
    pending: int = 1024,
    erasing: bool = False,
) -> AsyncIterator[Database]:
    """Open or make the file and bring it to schema version ``len(migrations)``.

    `erasing`: what is removed is written over, where else it lies in unused pages for long.

    Migration n (from 0) is the SQL that leads from version n to n+1; a published one
    never changes. More than `pending` unfinished writes make callers wait.

    Raises NotReady (STATE_IN_USE, STATE_NOT_WRITABLE, STATE_TOO_NEW), DataLost where the
    file is no sound database, Exhausted (DISK_FULL).
    """
    named = partial(_named, path)
    opening = partial(_writing, path, migrations, erasing)
    writer = Workers(opening, _apply, named, 1, _TOGETHER, pending)
    reading = Workers(partial(_reading, path), _look, named, readers, 1, pending)
    async with writer.running(), reading.running():
        yield Database(writer, reading)


@contextmanager
def _writing(path: Path, migrations: Sequence[str], erasing: bool) -> Iterator[sqlite3.Connection]:
    with exclusive(path), ExitStack() as last, closing(_connect(path, "rwc")) as connection:
        path.chmod(0o600)  # conversations are private
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA secure_delete = {'ON' if erasing else 'OFF'}")
        # A burst must not leave a huge log file behind for good.
        connection.execute("PRAGMA journal_size_limit = 67108864")
        _migrate(connection, path, migrations)
        connection.log = Path(f"{path}-wal")
        connection.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        # After the connections: to close a file takes SQLite's locks on it from this process.
        last.callback(os.close, connection.file)
        yield connection


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(_connect(path, "ro")) as connection:
        yield connection


class _Connection(sqlite3.Connection):
    file = -1  # of the one that writes: the database, as the system has it
    log = Path()  # what SQLite has written and not yet brought into the file

    def has_log(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0


def _connect(path: Path, mode: str) -> _Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = _Connection(address, timeout=_BUSY / 1000, uri=True)
    connection.isolation_level = None  # transactions are ours
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise NotReady(
            f"{str(path)!r} was written by a newer version of this program (schema {version}, "
            f"known up to {len(migrations)}): upgrade, or choose another folder with --state",
            reason="STATE_TOO_NEW",
            folder=str(path.parent),
        )
    for number, sql in enumerate(migrations[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\n;PRAGMA user_version = {number}; COMMIT;"
        )


def _write_out(connection: sqlite3.Connection) -> int | None:
    """Work that is no part of a transaction. None: somebody reads what is in the log."""
    connection.execute(f"PRAGMA busy_timeout = {_WRITING_OUT}")
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_BUSY}")
    return None if busy else 0


@dataclass(frozen=True, slots=True)
class _Wipe:
    """The same, and what is unused is zeros in some pages. Returns the next page; 0: all done."""

    first: int

    def __call__(self, connection: sqlite3.Connection) -> int | None:
        if _write_out(connection) is None or not isinstance(connection, _Connection):
            return None
        # Programs that don't know of our lock, such as sqlite3, keep to SQLite's.
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.has_log():  # somebody wrote just now
                return None
            following = scrub(connection.file, self.first, _PAGES)
        finally:
            connection.execute("ROLLBACK")
            # What it has read before it must not write again.
            connection.execute("PRAGMA shrink_memory")
        if following is None:
            connection.execute("VACUUM")
            return _write_out(connection)
        return following


def _apart(work: Work) -> bool:
    return work is _write_out or isinstance(work, _Wipe)


def _apply(connection: sqlite3.Connection, works: Sequence[Work]) -> Sequence[Outcome]:
    writes = [work for work in works if not _apart(work)]
    outcomes = iter(_commit(connection, writes) if writes else ())
    written_out = attempt(_write_out, connection) if _write_out in works else (None, None)

    def outcome(work: Work) -> Outcome:
        if isinstance(work, _Wipe):
            return attempt(work, connection)
        return written_out if work is _write_out else next(outcomes)

    return [outcome(work) for work in works]


def _commit(connection: sqlite3.Connection, works: Sequence[Work]) -> Sequence[Outcome]:
    """All in one transaction; where one fails, again with each held apart from the others.

    Failing is rare and a savepoint costs two statements, so the common case goes without.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [work(connection) for work in works]
        connection.execute("COMMIT")
    except Exception as error:
        _undo(connection)
        return [(None, error)] if len(works) == 1 else _commit_apart(connection, works)
    return [(result, None) for result in results]


def _commit_apart(connection: sqlite3.Connection, works: Sequence[Work]) -> Sequence[Outcome]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_held(connection, work) for work in works]
        connection.execute("COMMIT")
    except Exception as error:
        _undo(connection)
        return [(None, error)] * len(works)
    return outcomes


def _held(connection: sqlite3.Connection, work: Work) -> Outcome:
    connection.execute("SAVEPOINT one")
    result, error = attempt(work, connection)
    if error is not None:
        if not connection.in_transaction:  # a full disk undoes everybody's work
            raise error
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")
    return result, error


def _look(connection: sqlite3.Connection, works: Sequence[Work]) -> Sequence[Outcome]:
    connection.execute("BEGIN")
    try:
        return [attempt(work, connection) for work in works]
    finally:
        _undo(connection)


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _named(path: Path, error: Exception) -> Exception:
    """What SQLite could not do, in our words. Errors of the SQL itself stay as they are."""
    if isinstance(error, OSError):
        return Unavailable(f"{str(path)!r}: {error}", reason="STORAGE_FAILED")
    if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.IntegrityError):
        return error
    said, where = f"{str(path)!r}: {error}", str(path.parent)
    named: AstromeshError
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            named = Exhausted(f"{said}: make room on that disk", reason="DISK_FULL", folder=where)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            named = DataLost(
                f"{said}: restore it from a backup, or move it away to start empty", folder=where
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            named = unwritable(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            named = Unavailable(
                f"{said}: another program holds this file", reason="STORAGE_BUSY", folder=where
            )
        case sqlite3.SQLITE_IOERR:
            named = Unavailable(said, reason="STORAGE_FAILED", folder=where)
        case _:
            return error
    named.__cause__ = error
    return named
