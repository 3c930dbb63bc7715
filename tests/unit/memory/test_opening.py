"""Opening the databases of memory."""

import sys
import threading
from importlib.abc import MetaPathFinder

import pytest

from servers.kernel.errors import Unavailable
from servers.memory.adapters.opening import open_places
from servers.memory.places import Backend
from tests.ports import free_port

REDIS = "servers.memory.adapters.redis"


class Noting(MetaPathFinder):
    """Finds nothing, and notes which thread has imported what."""

    def __init__(self) -> None:
        self.seen: dict[str, threading.Thread] = {}

    def find_spec(self, name, path, target=None) -> None:
        self.seen[name] = threading.current_thread()


async def test_the_event_loop_does_not_wait_for_a_client_library(monkeypatch):
    noting = Noting()
    monkeypatch.delitem(sys.modules, REDIS, raising=False)
    monkeypatch.setattr(sys, "meta_path", [noting, *sys.meta_path])
    backend = Backend("redis", f"redis://127.0.0.1:{free_port()}/0", "a test")
    async with open_places(None, {"far": backend}, lambda: 0.0) as places:
        with pytest.raises(Unavailable):
            await places.store("far")
    assert noting.seen[REDIS] is not threading.main_thread()
