"""A mesh that dies with SIGKILL at a boundary between two writes of a run's log:

    python -m tests.faults.doomed after:3 --config ...

`after:3` is when the third write is durable, `before:3` when it was about to be handed over.
The store itself is the real one.
"""

import os
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

_STORES = (
    ("servers.agents.adapters.sqlite_runs", "SqliteRuns"),
    ("servers.agents.adapters.postgres_runs", "PostgresRuns"),
)


class Doom:
    def __init__(self, when: str) -> None:
        self._when, _, count = when.partition(":")
        self._left = int(count)

    def around(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def doomed(*values: Any) -> Any:
            self._left -= 1
            last = self._left == 0
            if last and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done = await write(*values)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return doomed


def main() -> None:
    doom = Doom(sys.argv.pop(1))
    for module, name in _STORES:
        store = getattr(import_module(module), name)
        for method in ("create", "append"):
            setattr(store, method, doom.around(getattr(store, method)))
    runpy.run_module("servers", run_name="__main__")


if __name__ == "__main__":
    main()
