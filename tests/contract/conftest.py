"""What the tests of providers over HTTP, and those of stores of runs, run with."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from servers.router.adapters.http import Http, open_http
from tests.contract import run_fixture
from tests.contract.provider_fixture import KINDS, NOON, Kind, streamed, whole


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


@pytest.fixture
async def stores(opening):
    async with opening() as stores:
        yield stores
