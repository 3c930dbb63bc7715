"""What `Episodes` promises, checked in each database, in process and over the wire alike."""

import asyncio
from dataclasses import replace

import pytest

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodePage,
    EpisodeScope,
    EpisodeType,
    EpisodicSelection,
    Note,
    RunTold,
)
from servers.domain.memory import Details, SessionKey, Strategy
from servers.domain.semantic import Besides
from servers.kernel.errors import InvalidInput, NotFound
from tests.contract import memory_fixture
from tests.contract.memory_fixture import EXCHANGE, KEY, START

RUN, CALL = EpisodeType.RUN, EpisodeType.TOOL_CALL
FEEDBACK, CUSTOM = EpisodeType.FEEDBACK, EpisodeType.CUSTOM
OK, FAILED = EpisodeOutcome.SUCCEEDED, EpisodeOutcome.FAILED
ALL = EpisodeFilter("acme", "helper")
HAPPENED = (
    Episode(RUN, "mail ada", "done", outcome=OK, duration=2.5, created_at=START),
    Episode(CALL, '{"to": "ada"}', "no such host", "send_mail", FAILED, created_at=START - 1),
    Episode(CALL, "{}", "sent", "send_letter", OK, duration=0.5, created_at=START),
)


def told(run_id="r1", happened=HAPPENED, key=KEY, attempt=1, principal="ada", **more) -> RunTold:
    return RunTold(key, run_id, attempt, happened, principal, **more)


def a_run(run_id: str, at: float = START, key: SessionKey = KEY, **more) -> RunTold:
    return told(run_id, (replace(HAPPENED[0], created_at=at),), key, **more)


def note(**said) -> Note:
    more = {key: said.pop(key) for key in ("request_id", "ttl", "backend") if key in said}
    said = {"type": CUSTOM, "text": "x", "agent": "helper", **said}
    return Note("acme", Episode(**said), **more)


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


class TestAList:
    @pytest.mark.parametrize(
        "other",
        [
            EpisodeFilter("else", "helper"),
            EpisodeFilter("acme", "other"),
            EpisodeFilter("acme", "helper", principal="bob"),
            EpisodeFilter("acme", "helper", principal=""),
            EpisodeFilter("acme", "helper", "s2"),
            EpisodeFilter("acme", "helper", run_id="r2"),
            EpisodeFilter("acme", "helper", since=START + 1),
            EpisodeFilter("acme", "helper", until=START - 1),
        ],
        ids=["tenant", "agent", "principal", "nobody", "session", "run", "later", "before"],
    )
    async def test_of_another_one_is_empty(self, episodes, other):
        await episodes.record(told())
        assert await episodes.list(other) == EpisodePage(())

    async def test_refuses_a_time_that_ends_before_it_begins(self, episodes):
        backwards = EpisodeFilter("acme", "helper", since=START, until=START - 1)
        assert await fields_wrong(episodes.list(backwards)) == ["end_time"]

    async def test_refuses_the_outcome_none(self, episodes):
        asked = EpisodeFilter("acme", "helper", outcomes=(EpisodeOutcome.NONE,))
        assert await fields_wrong(episodes.list(asked)) == ["outcomes"]

    async def test_refuses_a_negative_page_size(self, episodes):
        assert await fields_wrong(episodes.list(ALL, -1)) == ["page_size"]

    async def test_refuses_a_token_of_another_list(self, episodes):
        await episodes.record(told())
        token = (await episodes.list(ALL, 1)).next_page_token
        for other in (EpisodeFilter("acme", "helper", "s1"), EpisodeFilter("acme", "other")):
            assert await fields_wrong(episodes.list(other, 1, token)) == ["page_token"]
        assert await fields_wrong(episodes.list(ALL, 1, "made up")) == ["page_token"]

    async def test_goes_on_where_it_was_while_more_is_written(self, episodes):
        for number in range(4):
            await episodes.record(a_run(f"r{number}", START + number))
        first = await episodes.list(ALL, 2)
        await episodes.record(a_run("new", START + 9))
        rest = await episodes.list(ALL, 9, first.next_page_token)
        assert ids(first) + ids(rest) == ["r3.0", "r2.0", "r1.0", "r0.0"]


class TestForgetting:
    @pytest.fixture(autouse=True)
    async def kept(self, episodes):
        await episodes.record(told())
        await episodes.record(a_run("r2", key=SessionKey("acme", "helper", "s2")))
        await episodes.record(a_run("r3", key=SessionKey("acme", "other", "s1")))
        await episodes.record(a_run("r4", key=SessionKey("else", "helper", "s1")))

    async def test_one_leaves_the_others(self, episodes):
        await episodes.remove("acme", "helper", "r1.1")
        assert ids(await episodes.list(ALL)) == ["r2.0", "r1.0", "r1.2"]

    @pytest.mark.parametrize(
        "named", [("acme", "helper", "r9.0"), ("acme", "other", "r1.0"), ("else", "helper", "r1.0")]
    )
    async def test_one_that_is_not_there_is_not_found(self, episodes, named):
        for call in (episodes.get, episodes.remove):
            with pytest.raises(NotFound) as caught:
                await call(*named)
            assert caught.value.reason == "EPISODE_NOT_FOUND"

    async def test_those_that_fit_leaves_the_others(self, episodes):
        assert await episodes.delete(EpisodeFilter("acme", "helper", types=(CALL,))) == 2
        assert ids(await episodes.list(ALL)) == ["r2.0", "r1.0"]

    async def test_all_has_to_be_said(self, episodes):
        assert await fields_wrong(episodes.delete(ALL)) == ["all"]
        assert await episodes.delete(ALL, everything=True) == 4
        for tenant, agent in (("acme", "other"), ("else", "helper")):
            assert len((await episodes.list(EpisodeFilter(tenant, agent))).episodes) == 1


class TestOfAPrincipal:
    async def test_everything_is_handed_out_and_erased(self, database):
        async with database.episodes() as store:
            await store.record(told())
            await store.record(a_run("r2", key=SessionKey("acme", "other", "s1")))
            await store.record(a_run("r3", principal="bob"))
            await store.record(a_run("r4", key=SessionKey("else", "helper", "s1")))
            first = await store.of_principal("acme", "ada", -1, 3)
            rest = await store.of_principal("acme", "ada", first[-1][0], 9)
            assert [each.id for _, each in (*first, *rest)] == ["r1.1", "r1.2", "r1.0", "r2.0"]
            assert [await store.erase("acme", "ada") for _ in range(2)] == [4, 0]
            assert len(await store.of_principal("acme", "bob", -1, 9)) == 1
            assert len(await store.of_principal("else", "ada", -1, 9)) == 1
            assert await store.of_principal("acme", "", -1, 9) == []

    async def test_everything_is_handed_out_in_pages_behind_his_turns(self, memory):
        await memory.append(KEY, EXCHANGE, "r1", Details("ada"))
        await memory.episodes.record(told())
        await memory.episodes.record(a_run("r3", principal="bob"))
        seen, token = [], ""
        while page := await memory.export("acme", "ada", 2, token):
            seen += [each.episode.id if each.episode else each.turn.index for each in page.records]
            if not (token := page.next_page_token):
                break
        assert seen == [0, 1, "r1.1", "r1.2", "r1.0"]

    async def test_everything_is_erased_with_his_turns(self, memory):
        await memory.append(KEY, EXCHANGE, "r1", Details("ada"))
        await memory.episodes.record(told())
        await memory.episodes.record(a_run("r3", principal="bob"))
        erased = await memory.erase("acme", "ada")
        assert (erased.turns, erased.episodes) == (2, 3)
        assert ids(await memory.episodes.list(ALL)) == ["r3.0"]


class TestAContext:
    @pytest.fixture(autouse=True)
    async def kept(self, memory):
        await memory.episodes.record(told())
        await memory.episodes.record(a_run("r2", START + 1, SessionKey("acme", "helper", "s2")))
        await memory.episodes.record(a_run("r3", START + 2, principal="bob"))
        await memory.episodes.record(a_run("r4", START + 3, principal=""))
        await memory.episodes.record(a_run("r5", key=SessionKey("acme", "other", "s1")))

    @staticmethod
    async def shown(memory, principal="ada", **selected) -> list[str]:
        besides = Besides(principal=principal, episodic=EpisodicSelection(**selected))
        context = await memory.context(KEY, Strategy("none"), besides=besides)
        assert context.failures == ()
        return [each.id for each in context.episodes]

    async def test_has_the_newest_of_who_asks(self, memory):
        assert await self.shown(memory, max_results=3) == ["r2.0", "r1.0", "r1.2"]

    async def test_of_nobody_known_has_those_of_nobody_known(self, memory):
        assert await self.shown(memory, "") == ["r4.0"]

    async def test_may_be_of_the_session_alone(self, memory):
        found = await self.shown(memory, scope=EpisodeScope.SESSION)
        assert found == ["r1.0", "r1.2", "r1.1"]

    async def test_may_be_of_everybody(self, memory):
        found = await self.shown(memory, scope=EpisodeScope.AGENT, max_results=3)
        assert found == ["r4.0", "r3.0", "r2.0"]

    async def test_may_be_of_some_types(self, memory):
        assert await self.shown(memory, types=(CALL,)) == ["r1.2", "r1.1"]

    @pytest.mark.parametrize("number", [-1, 101])
    async def test_refuses_a_number_that_makes_no_sense(self, memory, number):
        wrong = self.shown(memory, max_results=number)
        assert await fields_wrong(wrong) == ["episodic.max_results"]

    async def test_without_it_has_the_conversation_all_the_same(self, memory):
        await memory.append(KEY, EXCHANGE)
        besides = Besides(episodic=EpisodicSelection(backend="nowhere"))
        context = await memory.context(KEY, Strategy(), besides=besides)
        assert [message.text for message in context.messages] == ["hello?", "hi!"]
        assert [each.source for each in context.failures] == ["episodic"]


class TestABackend:
    async def test_that_answers_can_be_checked(self, episodes):
        await episodes.check("sqlite")

    async def test_that_nobody_knows_is_refused(self, episodes):
        assert await fields_wrong(episodes.check("chatz")) == ["backend"]
