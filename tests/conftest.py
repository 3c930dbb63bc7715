"""What holds for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres_server import PostgresServer, postgres_server

# A busy machine is slow: how long an example takes says nothing about what is tested.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """For all tests that don't stop it. Each takes a schema of its own."""
    with postgres_server() as server:
        yield server
