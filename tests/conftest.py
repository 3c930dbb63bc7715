"""What holds for all tests."""

import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.postgres_server import PostgresServer, postgres_server

# A busy machine is slow: how long an example takes says nothing about what is tested.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

# As a mesh does: the default shows all variables of a traceback, which takes seconds each time.
plainly = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plainly])

# A shell without job control makes what it starts with `&` ignore Ctrl-C, and so would every
# program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """For all tests that don't stop it. Each takes a schema of its own."""
    with postgres_server() as server:
        yield server
