"""Agent runtimes over a real store behind a disk that waits or fails when a test says so."""

import asyncio
import contextlib
import time
from collections import defaultdict
from contextlib import aclosing

from servers.agents.adapters.opening import open_stores
from servers.agents.adapters.sqlite import lessons as sqlite_lessons
from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.versions import Versions
from servers.agents.planning import Planner
from servers.agents.runs.context.summarising import Summaries
from servers.agents.runs.memory.learning import Learning
from servers.agents.service import AgentRuntime, Limits
from servers.assembly.agents import PATTERNS
from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.runs import RunRequest
from servers.kernel.errors import Exhausted
from servers.kernel.sqlite import open_database
from servers.mesh import open_mesh
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply, Then

ME = Caller("acme")
ASK = RunRequest("helper", "hello?")
NAMED = RunRequest("helper", "hello?", request_id="r-1")
IN_SESSION = RunRequest("helper", "hello?", session="s")
HANGS = Reply(("Once",), then=Then.HANG)
FULL = Exhausted("make room on that disk", reason="DISK_FULL")


class Troubled:
    """The real store, or its leases, behind a disk that waits, or fails, where the test says so."""

    def __init__(self, store):
        self._store = store
        self.gates = {}  # by method: what it waits for
        self.late = {}  # by method: what it waits for once it has done its work
        self.errors = {}  # by method: what it raises then
        self.reached = defaultdict(asyncio.Event)
        self.done = defaultdict(asyncio.Event)  # by method that is late

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def troubled(*values):
            self.reached[name].set()
            if gate := self.gates.get(name):
                await gate.wait()
            if error := self.errors.get(name):
                raise error
            done = await method(*values)
            if gate := self.late.get(name):
                self.done[name].set()
                await gate.wait()
            return done

        return troubled

    def hold(self, method):
        """Returns what lets it go on."""
        self.reached[method].clear()
        self.gates[method] = asyncio.Event()
        return self.gates[method]

    def delay(self, method):
        """Returns what lets it tell that it is done."""
        self.late[method] = asyncio.Event()
        return self.late[method]


class World:
    """Runtimes over one folder, one after the other, and the model they ask. With a `dsn` runs
    are in PostgreSQL, where runtimes of several folders can work on them at once."""

    def __init__(self, folder, model, dsn="", lease=15.0):
        self.folder, self.model, self.dsn, self.lease = folder, model, dsn, lease
        self.leases = self.memory = None  # of the newest runtime

    @contextlib.asynccontextmanager
    async def runtime(self, trouble=lambda store: None, **limits):
        config = load_config(self.folder / "config", self.folder / "state", {})
        async with (
            open_mesh(config) as mesh,
            open_stores(self.folder, time.time, _new_id, dsn=self.dsn, lease=self.lease) as stores,
            Summaries() as summaries,
            open_database(self.folder / "lessons.db", sqlite_lessons.MIGRATIONS) as lessons,
        ):
            self.memory = Troubled(mesh.memory)
            parts = mesh.router, self.memory, mesh.tools, mesh.rag, PATTERNS, time.time
            learning = Learning(sqlite_lessons.SqliteLessons(lessons), time.time)
            planner = Planner(*parts, summaries, learning)
            catalogue = Catalogue(stores.agents, config.declaring, planner.check, time.time)
            catalogue.take_files(config.agents)
            versions = Versions(stores.versions, catalogue, config.declaring, time.time)
            store, self.leases = Troubled(stores.runs), Troubled(stores.leases)
            trouble(store)
            limits = {"drain_seconds": 0.0, **limits}
            async with AgentRuntime(
                catalogue,
                planner,
                versions,
                store,
                self.leases,
                stores.trees,
                time.time,
                _new_id,
                Limits(**limits),
                unlearn=learning.drop_of,
            ) as runtime:
                yield runtime, store


_ids = (f"run-{number:06}" for number in range(1_000_000))


def _new_id():
    return next(_ids)


async def seen(events):
    async with asyncio.timeout(PATIENCE), aclosing(events):
        return [event async for event in events]


async def ended(runtime, run_id):
    return (await seen(runtime.events(ME, run_id)))[-1].payload.run


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


async def idle(runtime):
    """Nothing of a run is left but what is kept on purpose."""
    async with asyncio.timeout(PATIENCE):
        await runtime._active.drained(10)
    return not runtime._active._runs and not runtime._sessions._lines
