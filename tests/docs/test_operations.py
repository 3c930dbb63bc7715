"""What docs/operations.md tells operators to type works."""

import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

from servers.kernel.sqlite import open_database
from tests.docs.blocks import blocks_of
from tests.docs.tour import ROOT

BLOCKS = blocks_of(ROOT / "docs" / "operations.md")
NAMES = ("runs", "memory", "agents", "usage", "lessons", "ingestions")


def typed(command: str, folder: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, check=True)


async def test_a_backup_of_databases_in_use_has_what_was_written(tmp_path):
    (backup,) = [block for block in BLOCKS if "backup" in block.text]
    async with AsyncExitStack() as stack:
        for name in NAMES:
            path = tmp_path / ".state" / f"{name}.db"
            database = await stack.enter_async_context(open_database(path, ["CREATE TABLE t(x)"]))
            await database.write(lambda connection: connection.execute("INSERT INTO t VALUES(7)"))
        typed(backup.text, tmp_path)
    for name in NAMES:
        with closing(sqlite3.connect(tmp_path / f"backup-{name}.db")) as copy:
            assert copy.execute("SELECT x FROM t").fetchall() == [(7,)]
