"""What a budget counts, from when to when, and how its counters are shown, here and in Redis."""

from dataclasses import replace

import pytest

from servers.domain.usage import BudgetAction, BudgetState, Window
from servers.kernel.errors import Exhausted, NotFound
from servers.router.ports import Cost
from tests.contract.budget_fixture import MIDNIGHT, one, opened, spend
from tests.contract.spending_fixture import ANYBODY, NOON, Clock, budget, tokens, used

__all__ = ["opened"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestWhatABudgetCounts:
    @pytest.mark.parametrize(
        ("match", "counted"),
        [
            ({"tenant": "acme", "agent": "helper", "model": "m"}, True),
            ({"principal": "a*", "session": "*-1", "provider": "comp*"}, True),
            ({"model": "other"}, False),
            ({"tenant": "acme", "principal": "bob"}, False),
        ],
    )
    async def test_is_what_fits_all_of_its_match(self, opened, match, counted):
        async with opened(budget(match=match, limit={"tokens": 10})) as kept:
            if not counted:
                await spend(kept, tokens(11))
                return
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(11))

    async def test_is_counted_apart_for_each_value_of_per(self, opened):
        async with opened(budget(per=["session"], limit={"tokens": 10})) as kept:
            await spend(kept, tokens(10))
            await spend(kept, tokens(10), replace(ANYBODY, session="s-2"))
            with pytest.raises(Exhausted, match="for tenant 'acme', session 's-1'"):
                await kept.reserve(ANYBODY, "company", "m", tokens(1))

    async def test_is_counted_together_without_per(self, opened):
        async with opened(budget(limit={"tokens": 10})) as kept:
            await spend(kept, tokens(10))
            with pytest.raises(Exhausted):
                await kept.reserve(replace(ANYBODY, tenant="other"), "company", "m", tokens(1))

    @pytest.mark.parametrize("per", ["principal", "agent", "session", "run"])
    async def test_of_different_tenants_is_never_mixed_by_names_of_theirs(self, opened, per):
        async with opened(budget(per=per, limit={"tokens": 10})) as kept:
            await spend(kept, tokens(10))
            await spend(kept, tokens(10), replace(ANYBODY, tenant="other"))

    async def test_is_a_whole_tree_of_runs(self, opened):
        async with opened(budget(window="run", limit={"tokens": 10})) as kept:
            await spend(kept, tokens(6))
            await spend(kept, tokens(10), replace(ANYBODY, run="r-2"))
            with pytest.raises(Exhausted, match="run 'r-1'") as caught:
                await kept.reserve(replace(ANYBODY, agent="sub"), "company", "m", tokens(5))
        assert caught.value.retry_after is None

    async def test_of_a_run_is_not_what_happens_outside_of_runs(self, opened):
        async with opened(budget(window="run", limit={"tokens": 10})) as kept:
            await spend(kept, tokens(100), replace(ANYBODY, run=""))
            assert await kept.budgets("acme") == []


class TestAWindow:
    @pytest.mark.parametrize(
        ("window", "end"),
        [
            ("hour", NOON + 3600),
            ("day", MIDNIGHT),
            ("month", 1_796_083_200.0),  # 2026-12-01T00:00:00Z
        ],
    )
    async def test_begins_anew_by_the_calendar(self, opened, window, end):
        clock = Clock()
        async with opened(budget(window=window, limit={"tokens": 10}), clock=clock) as kept:
            await spend(kept, tokens(10))
            clock.now = end - 0.001
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(1))
            clock.now = end
            await spend(kept, tokens(10))
            assert (await one(kept)).starts_at == end

    async def test_is_charged_for_the_calls_that_began_in_it(self, opened):
        clock = Clock()
        async with opened(budget(limit={"tokens": 10}), clock=clock) as kept:
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(10))
            clock.now = MIDNIGHT
            await spend(kept, tokens(4))
            await reservation.settle(used(10), "chat")
            assert ((await one(kept)).spent_tokens, (await one(kept)).reserved_tokens) == (4, 0)
            clock.now = NOON
            assert ((await one(kept)).spent_tokens, (await one(kept)).reserved_tokens) == (10, 0)


class TestTheListOfCounters:
    async def test_has_limits_sums_and_times(self, opened):
        hourly = budget(name="hourly", window="hour", limit={"usd": 2.0, "tokens": 50})
        async with opened(hourly) as kept:
            await spend(kept, Cost(10, 0.5))
            await kept.reserve(ANYBODY, "company", "m", Cost(5, 0.25))
            assert await kept.budgets("acme") == [
                BudgetState(
                    "hourly",
                    {},
                    Window.HOUR,
                    BudgetAction.HARD,
                    NOON,
                    NOON + 3600,
                    2.0,
                    0.5,
                    0.25,
                    50,
                    10,
                    5,
                )
            ]

    async def test_shows_a_budget_before_its_first_call(self, opened):
        async with opened(budget(name="own", per=["tenant"], limit={"tokens": 10})) as kept:
            state = await one(kept)
        assert (state.group, state.spent_tokens) == ({"tenant": "acme"}, 0)

    async def test_shows_nobody_what_others_did(self, opened):
        budgets = (
            budget(name="theirs", match={"tenant": "other"}, limit={"tokens": 100}),
            budget(name="each", per=["tenant"], limit={"tokens": 100}),
            budget(name="talks", per=["session"], limit={"tokens": 100}),
        )
        async with opened(*budgets) as kept:
            await spend(kept, tokens(10), replace(ANYBODY, tenant="other"))
            await spend(kept, tokens(5))
            shown = await kept.budgets("acme")
        assert [(each.name, each.group.get("tenant"), each.spent_tokens) for each in shown] == [
            ("each", "acme", 5),
            ("talks", "acme", 5),
        ]

    async def test_shows_everybody_what_is_counted_of_all(self, opened):
        async with opened(budget(name="all", per=["model"], limit={"tokens": 100})) as kept:
            await spend(kept, tokens(10), replace(ANYBODY, tenant="other"))
            state = await one(kept)
        assert (state.group, state.spent_tokens) == ({"model": "m"}, 10)

    async def test_can_be_of_one_budget(self, opened):
        async with opened(
            budget(name="one", limit={"tokens": 1}), budget(name="two", limit={"tokens": 1})
        ) as kept:
            assert [each.name for each in await kept.budgets("acme", "two")] == ["two"]

    @pytest.mark.parametrize("name", ["tow", "theirs"])
    async def test_knows_no_other_names(self, opened, name):
        theirs = budget(name="theirs", match={"tenant": "other"}, limit={"tokens": 1})
        async with opened(budget(name="two", limit={"tokens": 1}), theirs) as kept:
            with pytest.raises(NotFound, match=f"no budget is named '{name}'") as caught:
                await kept.budgets("acme", name)
        assert "theirs" not in caught.value.message.replace(f"'{name}'", "", 1)
