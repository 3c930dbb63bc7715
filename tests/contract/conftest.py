"""What the tests of providers over HTTP, and those of stores of runs, run with."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from servers.router.adapters.http import Http, open_http
from tests.chroma_server import chroma_server_in
from tests.contract import memory_fixture, run_fixture
from tests.contract.provider_fixture import KINDS, NOON, Kind, streamed, whole
from tests.postgres_server import postgres_server
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request) -> Kind:
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[Http]:
    async with open_http(clock=lambda: NOON) as http:
        yield http


@pytest.fixture(params=[whole, streamed], ids=lambda f: f.__name__)
def heard(request):
    """Both ways to ask: one answer, or piece by piece."""
    return request.param


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request, tmp_path):
    """Opens the same stores of runs again and again."""
    if request.param == "sqlite":
        return lambda: run_fixture.sqlite(tmp_path)
    dsn = request.getfixturevalue("postgres").schema()
    return lambda: run_fixture.postgres(dsn)


@pytest.fixture(scope="module")
def mortal_postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture
def fragile(mortal_postgres):
    """A PostgreSQL that may be stopped: it runs again for the next test of the file."""
    yield mortal_postgres
    if mortal_postgres.process is None:
        mortal_postgres.start()


@pytest.fixture
async def stores(opening):
    async with opening() as stores:
        yield stores


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis(tmp_path_factory) -> AsyncIterator[RedisServer]:
    """For all tests that don't stop it. Each takes a prefix of its own."""
    async with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory):
    with chroma_server_in(tmp_path_factory.mktemp("chroma")) as address:
        yield address


@pytest.fixture(params=memory_fixture.KINDS)
def database(request, tmp_path) -> memory_fixture.Database:
    """Where conversations can be kept, empty."""
    if request.param == "sqlite":
        return memory_fixture.Database("sqlite", str(tmp_path))
    if request.param == "redis":
        return memory_fixture.Database("redis", request.getfixturevalue("redis").url)
    dsn = request.getfixturevalue("postgres").schema()
    return memory_fixture.Database("postgres", dsn)


@pytest.fixture(
    params=[memory_fixture.in_process, memory_fixture.over_the_wire], ids=lambda f: f.__name__
)
def asked(request):
    """How the memory service is asked."""
    return request.param


@pytest.fixture
async def memory(database, asked):
    async with database.memory(asked) as memory:
        yield memory
