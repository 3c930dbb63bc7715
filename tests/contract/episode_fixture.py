"""What the tests of episodes share: runs and notes to keep, and where."""

import pytest

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodePage,
    EpisodeType,
    RunTold,
)
from servers.kernel.errors import InvalidInput
from tests.contract import memory_fixture
from tests.contract.memory_fixture import KEY, START

RUN, CALL = EpisodeType.RUN, EpisodeType.TOOL_CALL
OK, FAILED = EpisodeOutcome.SUCCEEDED, EpisodeOutcome.FAILED
ALL = EpisodeFilter("acme", "helper")
HAPPENED = (
    Episode(RUN, "mail ada", "done", outcome=OK, duration=2.5, created_at=START),
    Episode(CALL, '{"to": "ada"}', "no such host", "send_mail", FAILED, created_at=START - 1),
    Episode(CALL, "{}", "sent", "send_letter", OK, duration=0.5, created_at=START),
)


def told(run_id="r1", happened=HAPPENED, key=KEY, attempt=1, principal="ada", **more) -> RunTold:
    return RunTold(key, run_id, attempt, happened, principal, **more)


def ids(page: EpisodePage) -> list[str]:
    return [episode.id for episode in page.episodes]


async def fields_wrong(call) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        await call
    return [violation.field for violation in caught.value.violations]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> memory_fixture.Database:
    """Where episodes can be kept, empty."""
    if request.param == "sqlite":
        return memory_fixture.Database("sqlite", str(tmp_path))
    dsn = request.getfixturevalue("postgres").schema()
    return memory_fixture.Database("postgres", dsn)


@pytest.fixture
async def episodes(memory):
    return memory.episodes
