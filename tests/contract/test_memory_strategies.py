"""What a model is shown under a budget of tokens and with a summary, in every database."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.domain.chat import Role, says
from servers.domain.memory import Backlog, Details, MemoryContext, SessionKey, Strategy, Summary
from servers.kernel.errors import InvalidInput
from tests.contract.memory_fixture import (
    CALL,
    EXCHANGE,
    KEY,
    RESULT,
    Database,
    indexes,
    numbered,
    texts,
)

BY = "p/m"
ROLLING = Strategy("summary", summary_threshold=8)


def budget(tokens: int, by: str = BY) -> Strategy:
    return Strategy("token_budget", max_tokens=tokens, counted_by=by)


async def counted(memory, *tokens: int, key: SessionKey = KEY) -> None:
    await memory.append(key, numbered(len(tokens)), "", Details(tokens=tokens, counted_by=BY))


def expected(tokens: list[int], most: int) -> list[str]:
    kept = []
    for index in reversed(range(len(tokens))):
        most -= tokens[index]
        if most < 0:
            break
        kept.append(str(index))
    return kept[::-1]


class TestABudgetOfTokens:
    async def test_takes_the_newest_until_the_next_would_not_fit(self, memory):
        await counted(memory, 10, 10, 100, 10, 10)
        assert texts(await memory.context(KEY, budget(50))) == ["3", "4"]

    @pytest.mark.parametrize(("most", "shown"), [(19, ["4"]), (20, ["3", "4"]), (9, [])])
    async def test_is_exact(self, memory, most, shown):
        await counted(memory, 10, 10, 100, 10, 10)
        assert texts(await memory.context(KEY, budget(most))) == shown

    async def test_may_reach_far_back(self, memory):
        await counted(memory, *[1] * 500)
        context = await memory.context(KEY, budget(300))
        assert texts(context) == [str(n) for n in range(200, 500)]
        assert context.total_turns == 500

    async def test_leaves_out_a_tool_result_whose_call_has_no_room(self, memory):
        turns = [EXCHANGE[0], CALL, RESULT, EXCHANGE[1]]
        await memory.append(KEY, turns, "", Details(tokens=(1, 9, 1, 1), counted_by=BY))
        assert (await memory.context(KEY, budget(5))).messages == (EXCHANGE[1],)

    async def test_tells_which_turns_nobody_has_counted(self, memory):
        await memory.append(KEY, numbered(2))
        await counted(memory, 5)
        assert [t.index for t in (await memory.context(KEY, budget(50))).uncounted] == [1, 0]

    async def test_goes_by_counts_of_its_own_model_only(self, memory):
        await counted(memory, 5, 5)
        uncounted = (await memory.context(KEY, budget(50, "p/other"))).uncounted
        assert [turn.index for turn in uncounted] == [1, 0]

    async def test_goes_by_what_was_counted_later(self, memory):
        await memory.append(KEY, numbered(3))
        await memory.count(KEY, [(0, 10), (1, 30), (2, 10)], BY)
        context = await memory.context(KEY, budget(20))
        assert (texts(context), context.uncounted) == (["2"], ())
        turns = (await memory.turns(KEY)).turns
        assert [(t.index, t.message.text, t.tokens) for t in turns] == [
            (0, "0", 10),
            (1, "1", 30),
            (2, "2", 10),
        ]

    async def test_takes_no_count_of_a_turn_that_is_not_there(self, memory):
        await memory.append(KEY, numbered(1))
        await memory.count(KEY, [(7, 10)], BY)
        assert indexes(await memory.turns(KEY)) == [0]

    @pytest.mark.parametrize("counts", [[(-1, 5)], [(0, 0)]])
    async def test_takes_no_count_that_makes_no_sense(self, memory, counts):
        with pytest.raises(InvalidInput, match="counts"):
            await memory.count(KEY, counts, BY)

    async def test_of_unsaid_size_is_4096(self, memory):
        await counted(memory, 1, 4096)
        assert texts(await memory.context(KEY, budget(0))) == ["1"]

    async def test_of_negative_size_is_refused(self, memory):
        with pytest.raises(InvalidInput, match="max_tokens"):
            await memory.context(KEY, budget(-1))


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(tokens=st.lists(st.integers(1, 60), min_size=1, max_size=150), most=st.integers(1, 2000))
def test_whatever_the_counts_the_budget_is_kept_and_used(tmp_path_factory, tokens, most):
    async def shown() -> list[str]:
        database = Database("sqlite", str(tmp_path_factory.mktemp("db")))
        async with database.memory() as memory:
            await counted(memory, *tokens)
            return texts(await memory.context(KEY, budget(most)))

    assert asyncio.run(shown()) == expected(tokens, most)


async def summarised(memory, text: str = "in short") -> Backlog:
    backlog = await memory.backlog(KEY, ROLLING)
    summary = Summary(text, backlog.turns[-1].index + 1, backlog.etag)
    assert await memory.summarise(KEY, summary)
    return backlog


class TestASummary:
    async def test_is_not_due_up_to_the_threshold(self, memory):
        await memory.append(KEY, numbered(8))
        assert (await memory.backlog(KEY, ROLLING)).turns == ()

    async def test_is_due_for_all_but_the_last_few_beyond_it(self, memory):
        await memory.append(KEY, numbered(10))
        backlog = await memory.backlog(KEY, ROLLING)
        assert [turn.message.text for turn in backlog.turns] == [str(n) for n in range(8)]

    async def test_stands_for_the_turns_that_are_in_it(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory)
        context = await memory.context(KEY, ROLLING)
        assert (context.summary, texts(context)) == ("in short", ["8", "9"])
        assert context.total_turns == 10

    async def test_leaves_the_turns_where_they_are(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory)
        assert indexes(await memory.turns(KEY)) == list(range(10))

    async def test_is_rolled_on_from_the_one_before(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory, "first")
        await memory.append(KEY, numbered(8))
        backlog = await summarised(memory, "second")
        assert (backlog.summary, backlog.turns[0].index) == ("first", 8)
        assert (await memory.context(KEY, ROLLING)).summary == "second"

    async def test_is_not_shown_under_another_strategy(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory)
        context = await memory.context(KEY, Strategy())
        assert (context.summary, len(context.messages)) == ("", 10)

    async def test_that_is_late_leaves_twice_the_threshold_to_see(self, memory):
        await memory.append(KEY, numbered(40))
        context = await memory.context(KEY, ROLLING)
        assert texts(context) == [str(n) for n in range(24, 40)]

    async def test_takes_in_a_long_past_in_parts(self, memory):
        await memory.append(KEY, numbered(500))
        parts = []
        while turns := (await memory.backlog(KEY, ROLLING)).turns:
            parts.append(len(turns))
            await summarised(memory)
        assert parts == [200, 200, 98]

    async def test_goes_with_its_session(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory)
        await memory.clear(KEY)
        assert await memory.context(KEY, ROLLING) == MemoryContext()
        await memory.append(KEY, EXCHANGE)
        assert (await memory.context(KEY, ROLLING)).summary == ""

    async def test_of_a_session_that_was_cleared_meanwhile_is_not_taken(self, memory):
        await memory.append(KEY, numbered(10))
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.clear(KEY)
        assert not await memory.summarise(KEY, Summary("stale", 8, backlog.etag))
        await memory.append(KEY, numbered(10))
        assert not await memory.summarise(KEY, Summary("stale", 8, backlog.etag))
        assert (await memory.context(KEY, ROLLING)).summary == ""

    async def test_is_one_of_those_that_are_made_at_once(self, memory):
        await memory.append(KEY, numbered(10))
        backlog = await memory.backlog(KEY, ROLLING)
        made = [Summary(f"s{n}", 8, backlog.etag) for n in range(8)]
        taken = await asyncio.gather(*(memory.summarise(KEY, each) for each in made))
        assert sum(taken) == 1
        assert (await memory.context(KEY, ROLLING)).summary == made[taken.index(True)].text

    async def test_does_not_mind_turns_that_are_added_meanwhile(self, memory):
        await memory.append(KEY, numbered(10))
        backlog = await memory.backlog(KEY, ROLLING)
        await memory.append(KEY, numbered(2))
        assert await memory.summarise(KEY, Summary("s", 8, backlog.etag))
        assert texts(await memory.context(KEY, ROLLING)) == ["8", "9", "0", "1"]

    async def test_survives_the_process(self, database, asked):
        async with database.memory(asked) as memory:
            await memory.append(KEY, numbered(10))
            await summarised(memory)
        async with database.memory(asked) as memory:
            assert (await memory.context(KEY, ROLLING)).summary == "in short"

    async def test_may_be_of_any_characters(self, memory):
        await memory.append(KEY, numbered(10))
        await summarised(memory, "Grüße \U0001f600\0 '; DROP TABLE --")
        assert (await memory.context(KEY, ROLLING)).summary == "Grüße \U0001f600 '; DROP TABLE --"

    @pytest.mark.parametrize(
        ("summary", "field"),
        [
            (Summary(" ", 8, "e"), "summary"),
            (Summary("s", 0, "e"), "summary"),
            (Summary("s", 8, "a\0b"), "etag"),
        ],
        ids=["blank", "empty", "NUL"],
    )
    async def test_of_nothing_is_refused(self, memory, summary, field):
        with pytest.raises(InvalidInput, match=field):
            await memory.summarise(KEY, summary)

    async def test_is_made_of_what_users_and_agents_said(self, memory):
        await memory.append(KEY, [says(Role.USER, "q"), CALL, RESULT, *numbered(10)])
        roles = [turn.message.role for turn in (await memory.backlog(KEY, ROLLING)).turns[:3]]
        assert roles == [Role.USER, Role.ASSISTANT, Role.TOOL]
