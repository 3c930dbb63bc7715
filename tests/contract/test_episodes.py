"""What `Episodes` promises, checked in each database, in process and over the wire alike."""

import asyncio
from dataclasses import replace

import pytest

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodePage,
    EpisodeType,
    Note,
)
from servers.kernel.errors import NotFound
from tests.contract.episode_fixture import (
    ALL,
    CALL,
    FAILED,
    HAPPENED,
    RUN,
    database,
    episodes,
    fields_wrong,
    ids,
    told,
)
from tests.contract.memory_fixture import START

__all__ = ["database", "episodes"]
FEEDBACK, CUSTOM = EpisodeType.FEEDBACK, EpisodeType.CUSTOM


def note(**said) -> Note:
    more = {key: said.pop(key) for key in ("request_id", "ttl", "backend") if key in said}
    said = {"type": CUSTOM, "text": "x", "agent": "helper", **said}
    return Note("acme", Episode(**said), **more)


class TestARun:
    async def test_is_kept_with_its_calls_the_newest_first(self, episodes):
        assert await episodes.record(told()) == 3
        assert ids(await episodes.list(ALL)) == ["r1.0", "r1.2", "r1.1"]

    async def test_keeps_all_there_is_to_say(self, episodes):
        await episodes.record(told(ttl=60.0))
        known = {"agent": "helper", "session": "s1", "principal": "ada", "run_id": "r1"}
        assert await episodes.get("acme", "helper", "r1.0") == replace(
            HAPPENED[0], id="r1.0", expires_at=START + 60, backend="sqlite", **known
        )
        failed = await episodes.get("acme", "helper", "r1.1")
        assert (failed.name, failed.outcome, failed.text, failed.result) == (
            "send_mail",
            FAILED,
            '{"to": "ada"}',
            "no such host",
        )

    async def test_that_is_told_again_adds_nothing(self, episodes):
        assert [await episodes.record(told()) for _ in range(2)] == [3, 0]
        assert len((await episodes.list(ALL)).episodes) == 3

    async def test_that_is_told_by_several_at_once_is_kept_once(self, episodes):
        added = await asyncio.gather(*(episodes.record(told()) for _ in range(8)))
        assert sorted(added) == [0] * 7 + [3]

    async def test_is_told_anew_by_a_later_attempt(self, episodes):
        await episodes.record(told())
        cancelled = replace(HAPPENED[0], outcome=EpisodeOutcome.CANCELLED)
        assert await episodes.record(told(happened=(cancelled,), attempt=2)) == 1
        assert await episodes.record(told(attempt=1)) == 0
        (kept,) = (await episodes.list(ALL)).episodes
        assert kept.outcome is EpisodeOutcome.CANCELLED

    async def test_told_anew_keeps_what_people_said_of_it(self, episodes):
        await episodes.record(told())
        await episodes.add(note(type=FEEDBACK, run_id="r1", rating=1.0))
        await episodes.record(told(attempt=2))
        found = await episodes.list(EpisodeFilter("acme", "helper", types=(FEEDBACK,)))
        assert len(found.episodes) == 1

    async def test_survives_the_process(self, database, asked):
        async with database.memory(asked) as memory:
            await memory.episodes.record(told())
        async with database.memory(asked) as memory:
            assert await memory.episodes.record(told()) == 0
            assert len((await memory.episodes.list(ALL)).episodes) == 3

    async def test_is_gone_when_its_time_is_over(self, episodes, database):
        await episodes.record(told(ttl=5.0))
        database.clock.now += 5
        assert (await episodes.list(ALL)).episodes == ()
        with pytest.raises(NotFound):
            await episodes.get("acme", "helper", "r1.0")
        assert await episodes.delete(ALL, everything=True) == 0

    async def test_is_removed_when_its_time_is_over(self, database):
        async with database.episodes() as store:
            await store.record(told(ttl=5.0))
            await store.record(told("r2"))
            database.clock.now += 5
            assert [await store.sweep(), await store.sweep()] == [3, 0]
            assert len(await store.page(ALL, None, 9)) == 3

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"happened": ()}, "episodes"),
            ({"happened": HAPPENED[1:]}, "episodes[0].type"),
            ({"happened": (HAPPENED[0], HAPPENED[0])}, "episodes[1].type"),
            ({"happened": (replace(HAPPENED[0], text="a\0b"),)}, "episodes[0].text"),
            ({"happened": (replace(HAPPENED[0], result="x" * 16_385),)}, "episodes[0].result"),
            ({"happened": (replace(HAPPENED[0], rating=1.0),)}, "episodes[0].rating"),
            ({"happened": (replace(HAPPENED[0], duration=-1.0),)}, "episodes[0].duration_seconds"),
            (
                {"happened": (replace(HAPPENED[0], outcome=EpisodeOutcome.NONE),)},
                "episodes[0].outcome",
            ),
            ({"happened": (HAPPENED[0], replace(HAPPENED[1], name=""))}, "episodes[1].name"),
            ({"attempt": 0}, "attempt"),
            ({"run_id": ""}, "run_id"),
            ({"principal": "a\nb"}, "principal"),
            ({"ttl": -1.0}, "ttl_seconds"),
            ({"backend": "nowhere"}, "backend"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_that_makes_no_sense_is_refused_whole(self, episodes, wrong, field):
        assert await fields_wrong(episodes.record(told(**wrong))) == [field]
        assert await episodes.list(ALL) == EpisodePage(())


class TestANote:
    async def test_is_given_back_with_its_id_and_time(self, episodes):
        await episodes.record(told())
        said = {"type": FEEDBACK, "run_id": "r1", "rating": 0.5, "text": "so so"}
        kept = await episodes.add(note(**said, metadata={"ticket": "A-1"}, principal="ada"))
        assert (kept.rating, kept.text, kept.metadata) == (0.5, "so so", {"ticket": "A-1"})
        assert (kept.created_at, kept.principal, kept.outcome) == (
            START,
            "ada",
            EpisodeOutcome.NONE,
        )
        assert await episodes.get("acme", "helper", kept.id) == kept

    async def test_on_a_run_has_its_session_and_its_time(self, episodes):
        await episodes.record(told(ttl=60.0))
        kept = await episodes.add(note(type=FEEDBACK, run_id="r1", rating=1.0))
        assert (kept.session, kept.expires_at) == ("s1", START + 60)

    async def test_may_have_a_time_of_its_own(self, episodes):
        await episodes.record(told(ttl=60.0))
        kept = [await episodes.add(note(run_id="r1", ttl=ttl)) for ttl in (5.0, 0.0)]
        assert [each.expires_at for each in kept] == [START + 5, None]

    async def test_of_the_same_request_is_kept_once(self, episodes):
        first = await episodes.add(note(request_id="q", text="one"))
        assert await episodes.add(note(request_id="q", text="two")) == first
        assert len((await episodes.list(ALL)).episodes) == 1

    async def test_on_a_run_that_nobody_knows_is_refused(self, episodes):
        await episodes.record(told())
        for unknown in ({"run_id": "r2"}, {"run_id": "r1", "agent": "other"}):
            with pytest.raises(NotFound, match="no run"):
                await episodes.add(note(type=FEEDBACK, rating=1.0, **unknown))
        assert (
            await episodes.list(EpisodeFilter("acme", "helper", types=(FEEDBACK,)))
        ).episodes == ()

    async def test_of_the_same_request_of_somebody_else_is_another(self, episodes):
        kept = [
            await episodes.add(note(request_id="q", text=text, principal=who))
            for text, who in (("one", "ada"), ("two", "bob"), ("three", ""))
        ]
        assert [each.text for each in kept] == ["one", "two", "three"]

    async def test_of_the_same_request_of_another_agent_is_another(self, episodes):
        await episodes.add(note(request_id="q"))
        kept = await episodes.add(note(request_id="q", agent="other"))
        assert kept.agent == "other"

    async def test_may_be_any_text(self, episodes):
        text = "Grüße\n'; DROP TABLE episode; -- % ? $1 \U0001f600"
        kept = await episodes.add(note(text=text, metadata={"k?'": text}))
        assert (await episodes.get("acme", "helper", kept.id)).metadata == {"k?'": text}

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"type": RUN}, "type"),
            ({"type": CALL}, "type"),
            ({"text": " "}, "text"),
            ({"text": "x" * 16_385}, "text"),
            ({"text": "a\0b"}, "text"),
            ({"rating": 0.5}, "rating"),
            ({"type": FEEDBACK, "rating": 0.5}, "run_id"),
            ({"type": FEEDBACK, "run_id": "r", "text": ""}, "rating"),
            ({"type": FEEDBACK, "run_id": "r", "rating": 1.01}, "rating"),
            ({"type": FEEDBACK, "run_id": "r", "rating": -0.01}, "rating"),
            ({"type": FEEDBACK, "run_id": "r", "rating": float("nan")}, "rating"),
            ({"metadata": {str(n): "x" for n in range(33)}}, "metadata"),
            ({"metadata": {"": "x"}}, "metadata"),
            ({"metadata": {"k" * 65: "x"}}, "metadata"),
            ({"metadata": {"a\nb": "x"}}, "metadata"),
            ({"metadata": {"k": "x" * 1025}}, "metadata['k']"),
            ({"metadata": {"k": "\0"}}, "metadata['k']"),
            ({"name": "a\0"}, "name"),
            ({"session": "x" * 257}, "session"),
            ({"request_id": "a\nb"}, "request_id"),
            ({"agent": ""}, "agent"),
            ({"ttl": 1e12}, "ttl_seconds"),
            ({"principal": "a\nb"}, "principal"),
            ({"backend": "postgresql://10.0.0.1/x"}, "backend"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_that_makes_no_sense_is_refused(self, episodes, wrong, field):
        assert await fields_wrong(episodes.add(note(**wrong))) == [field]
        assert await episodes.list(ALL) == EpisodePage(())
