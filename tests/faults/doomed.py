"""A mesh that dies with SIGKILL at a boundary between two writes of a run's log:

    python -m tests.faults.doomed after:3 --config ...

`after:3` is when the third write is durable, `before:3` when it was about to be handed over;
`told:1` is when the first run has told its episodes, and its end is not written yet; `kept:1` is
when its question and answer are in their conversation, and nothing else of its end is anywhere;
`stored:3` is when the third document is in its store, and its ingestion does not know of it yet;
`deleted:1` is when the first runs of a purge are gone. The stores themselves are the real ones.
"""

import os
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

_STORES = (
    ("servers.agents.adapters.sqlite.runs", "SqliteRuns"),
    ("servers.agents.adapters.postgres.runs", "PostgresRuns"),
)
_EPISODES = (
    ("servers.memory.adapters.sqlite_episodes", "SqliteEpisodes"),
    ("servers.memory.adapters.postgres_episodes", "PostgresEpisodes"),
)
_CONVERSATIONS = (("servers.memory.adapters.sqlite", "SqliteConversations"),)
_SPOOL = (("servers.rag.adapters.spool", "SqliteSpool"),)
_TREES = (
    ("servers.agents.adapters.sqlite.trees", "SqliteTrees"),
    ("servers.agents.adapters.postgres.trees", "PostgresTrees"),
)
_RUN_WRITES = (_STORES, ("create", "append"))
_WRITES = {
    "told": (_EPISODES, ("record",)),
    "kept": (_CONVERSATIONS, ("append",)),
    "stored": (_SPOOL, ("settle",)),
    "deleted": (_TREES, ("delete",)),
}


class Doom:
    def __init__(self, when: str) -> None:
        self.when, _, count = when.partition(":")
        self._left = int(count)

    def around(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def doomed(*values: Any) -> Any:
            self._left -= 1
            last = self._left == 0
            if last and self.when in ("before", "stored"):
                os.kill(os.getpid(), signal.SIGKILL)
            done = await write(*values)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return doomed


def main() -> None:
    doom = Doom(sys.argv.pop(1))
    stores, methods = _WRITES.get(doom.when, _RUN_WRITES)
    for module, name in stores:
        store = getattr(import_module(module), name)
        for method in methods:
            setattr(store, method, doom.around(getattr(store, method)))
    runpy.run_module("servers", run_name="__main__")


if __name__ == "__main__":
    main()
