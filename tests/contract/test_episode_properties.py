"""Whatever is filtered by, in pages of any size: every database lists what Python would."""

import asyncio
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.domain.episodes import Episode, EpisodeFilter, EpisodeOutcome, EpisodeType, RunTold
from servers.domain.memory import SessionKey
from tests.contract import memory_fixture

_tenants = count()

few = st.sampled_from
OUTCOMES = list(EpisodeOutcome)[1:4]
happened = st.tuples(
    few(["helper", "other"]),
    few(["s1", "s2"]),
    few(["", "ada", "bob"]),
    st.lists(st.tuples(few(["add", "send"]), few(OUTCOMES), st.integers(0, 3)), max_size=3),
    few(OUTCOMES),
    st.integers(0, 3),  # moments, so that some are the same
)
filters = st.fixed_dictionaries(
    {"agent": few(["helper", "other", "helper"])},
    optional={
        "session": few(["s1", "s2"]),
        "run_id": few(["r0", "r1"]),
        "types": st.lists(few(list(EpisodeType)[:3]), max_size=2).map(tuple),
        "outcomes": st.lists(few(OUTCOMES), max_size=2).map(tuple),
        "name": few(["add", "send"]),
        "principal": few(["", "ada"]),
        "since": few([0.0, 1.0, 2.0]),
        "until": few([2.0, 3.0]),
    },
)


def run_of(tenant: str, number: int, said) -> RunTold:
    agent, session, principal, calls, outcome, at = said
    run = Episode(EpisodeType.RUN, outcome=outcome, created_at=float(at))
    called = (
        Episode(EpisodeType.TOOL_CALL, name=name, outcome=how, created_at=float(when))
        for name, how, when in calls
    )
    return RunTold(SessionKey(tenant, agent, session), f"r{number}", 1, (run, *called), principal)


def expected(runs: list[RunTold], asked: EpisodeFilter) -> list[str]:
    written = []  # (time, order of writing, id)
    for told in runs:
        numbers = [*range(1, len(told.episodes)), 0]  # the calls, then the run
        for number in numbers:
            episode = told.episodes[number]
            fits = (
                told.key.agent == asked.agent
                and asked.session in ("", told.key.session)
                and asked.run_id in ("", told.run_id)
                and (not asked.types or episode.type in asked.types)
                and (not asked.outcomes or episode.outcome in asked.outcomes)
                and asked.name in ("", episode.name)
                and asked.principal in (None, told.principal)
                and (asked.since is None or episode.created_at >= asked.since)
                and (asked.until is None or episode.created_at < asked.until)
            )
            if fits:
                written.append((episode.created_at, len(written), f"{told.run_id}.{number}"))
    return [id for _, _, id in sorted(written, reverse=True)]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> memory_fixture.Database:
    if request.param == "sqlite":
        return memory_fixture.Database("sqlite", str(tmp_path))
    dsn = request.getfixturevalue("postgres").schema()
    return memory_fixture.Database("postgres", dsn)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(happened, max_size=8), asked=st.lists(filters, max_size=6), size=few([1, 2, 5])
)
def test_every_database_lists_what_python_would(database, said, asked, size):
    async def compare() -> None:
        tenant = f"t{next(_tenants)}"
        runs = [run_of(tenant, number, each) for number, each in enumerate(said)]
        async with database.memory() as memory:
            for told in runs:
                await memory.episodes.record(told)
            for each in asked:
                which, found, token = EpisodeFilter(tenant, **each), [], ""
                while page := await memory.episodes.list(which, size, token):
                    found += [episode.id for episode in page.episodes]
                    if not (token := page.next_page_token):
                        break
                assert found == expected(runs, which)
            if asked:
                which = EpisodeFilter(tenant, **asked[-1])
                deleted = await memory.episodes.delete(which, everything=True)
                assert deleted == len(expected(runs, which))
                assert (await memory.episodes.list(which)).episodes == ()

    asyncio.run(compare())
