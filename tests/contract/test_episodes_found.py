"""How episodes are found again, forgotten and shown, in each database, both ways alike."""

from dataclasses import replace

import pytest

from servers.domain.episodes import (
    EpisodeFilter,
    EpisodeOutcome,
    EpisodePage,
    EpisodeScope,
    EpisodicSelection,
    RunTold,
)
from servers.domain.memory import Details, SessionKey, Strategy
from servers.domain.semantic import Besides
from servers.kernel.errors import NotFound
from tests.contract.episode_fixture import (
    ALL,
    CALL,
    HAPPENED,
    database,
    episodes,
    fields_wrong,
    ids,
    told,
)
from tests.contract.memory_fixture import EXCHANGE, KEY, START

__all__ = ["database", "episodes"]


def a_run(run_id: str, at: float = START, key: SessionKey = KEY, **more) -> RunTold:
    return told(run_id, (replace(HAPPENED[0], created_at=at),), key, **more)


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
