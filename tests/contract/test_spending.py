"""What `Spending` promises, whether its counters are in this process or in Redis."""

import asyncio
from dataclasses import replace

import pytest

from servers.kernel.errors import Exhausted, NotReady
from servers.router.ports import Cost
from tests.contract.budget_fixture import MIDNIGHT, one, opened, spend
from tests.contract.spending_fixture import ANYBODY, NOON, budget, tokens, usd, used
from tests.patience import PATIENCE

__all__ = ["opened"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestAHardBudget:
    async def test_lets_calls_pass_up_to_its_limit(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await spend(kept, tokens(60))
            await spend(kept, tokens(40))
            assert (await one(kept)).spent_tokens == 100

    async def test_refuses_a_token_more(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await spend(kept, tokens(60))
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(41))

    async def test_refuses_a_billionth_of_a_dollar_more(self, opened):
        async with opened(budget(limit={"usd": 0.3})) as kept:
            for _ in range(3):
                await spend(kept, usd(0.1))
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", usd(1e-9))

    async def test_counts_calls_at_work_as_if_they_used_what_they_may(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await kept.reserve(ANYBODY, "company", "m", tokens(60))
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(41))

    async def test_says_which_it_is_what_is_left_and_when_it_begins_anew(self, opened):
        async with opened(budget(name="daily", limit={"tokens": 1000})) as kept:
            await spend(kept, tokens(700))
            await kept.reserve(ANYBODY, "company", "m", tokens(200))
            with pytest.raises(Exhausted) as caught:
                await kept.reserve(ANYBODY, "company", "m", tokens(101))
        error = caught.value
        assert (error.reason, error.facts) == ("BUDGET_EXCEEDED", {"budget": "daily"})
        assert error.retry_after == MIDNIGHT - NOON
        assert error.message == (
            "budget 'daily': 700 of 1,000 tokens used, 200 set aside; this call may need "
            "101 tokens; it begins anew at 2026-11-26T00:00Z"
        )

    async def test_names_every_budget_that_is_short(self, opened):
        tight = [budget(name=name, limit={"tokens": 10}) for name in ("one", "two")]
        async with opened(*tight, budget(limit={"tokens": 100})) as kept:
            with pytest.raises(Exhausted) as caught:
                await kept.reserve(ANYBODY, "company", "m", tokens(11))
        assert [violation.field for violation in caught.value.violations] == ["one", "two"]

    async def test_tells_nobody_to_retry_a_call_that_is_larger_than_its_limit(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            with pytest.raises(Exhausted) as caught:
                await kept.reserve(ANYBODY, "company", "m", tokens(101))
        assert caught.value.retry_after is None

    async def test_is_charged_nothing_where_another_one_is_short(self, opened):
        wide, tight = budget(limit={"tokens": 100}), budget(limit={"tokens": 10})
        async with opened(wide, tight) as kept:
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(11))
            for each in (wide, tight):
                assert (await one(kept, each.name)).reserved_tokens == 0

    async def test_bounds_money_and_tokens_at_once(self, opened):
        async with opened(budget(limit={"usd": 1.0, "tokens": 100})) as kept:
            await spend(kept, Cost(10, 0.9))
            with pytest.raises(Exhausted, match=r"0\.9 USD of 1 USD spent.*may need 0\.2 USD;"):
                await kept.reserve(ANYBODY, "company", "m", Cost(10, 0.2))
            with pytest.raises(Exhausted, match=r"10 of 100 tokens used.*may need 91 tokens;"):
                await kept.reserve(ANYBODY, "company", "m", Cost(91, 0.1))

    async def test_in_dollars_refuses_a_call_whose_price_is_unknown(self, opened):
        async with opened(budget(name="daily", limit={"usd": 5})) as kept:
            with pytest.raises(NotReady, match="what company/m costs") as caught:
                await kept.reserve(ANYBODY, "company", "m", tokens(1))
        assert caught.value.reason == "PRICE_UNKNOWN"
        assert caught.value.facts == {"budget": "daily", "provider": "company", "model": "m"}

    async def test_in_tokens_needs_no_price(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await spend(kept, tokens(100))
            assert (await one(kept)).spent_tokens == 100


class TestSettling:
    async def test_counts_what_was_used_instead_of_what_was_set_aside(self, opened):
        async with opened(budget(limit={"usd": 1.0})) as kept:
            await spend(kept, Cost(100, 0.8), tokens=30, usd=0.05)
            state = await one(kept)
        assert (state.spent_usd, state.reserved_usd) == (0.05, 0.0)
        assert (state.spent_tokens, state.reserved_tokens) == (30, 0)

    async def test_may_overdraw_so_that_the_next_call_is_refused(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await spend(kept, tokens(50), tokens=120)
            assert (await one(kept)).spent_tokens == 120
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(1))

    async def test_counts_tokens_where_the_cost_turned_out_unknown(self, opened):
        async with opened(budget(limit={"usd": 1.0})) as kept:
            await spend(kept, Cost(100, 0.5), tokens=40, usd=None)
            state = await one(kept)
        assert (state.spent_usd, state.spent_tokens, state.reserved_usd) == (0.0, 40, 0.0)

    async def test_is_done_once(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            reservation = await spend(kept, tokens(50))
            with pytest.raises(RuntimeError, match="once"):
                await reservation.settle(used(50), "chat")
            with pytest.raises(RuntimeError, match="once"):
                await reservation.release()
            assert (await one(kept)).spent_tokens == 50

    async def test_survives_a_provider_that_counts_nonsense(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            await spend(kept, tokens(1), tokens=-(10**30))
            await spend(kept, tokens(1), tokens=10**30)
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(1))

    async def test_takes_place_though_its_caller_is_cancelled(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(50))
            settling = asyncio.create_task(reservation.settle(used(20), "chat", "cut_off"))
            await asyncio.sleep(0)
            settling.cancel()
            await asyncio.wait([settling])
            async with asyncio.timeout(PATIENCE):
                while (state := await one(kept)).reserved_tokens:  # noqa: ASYNC110  # in Redis
                    await asyncio.sleep(0.01)
        assert state.spent_tokens == 20


class TestReleasing:
    async def test_gives_back_what_was_set_aside(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(100))
            await reservation.release()
            await spend(kept, tokens(100))
            assert (await one(kept)).spent_tokens == 100

    async def test_is_done_once(self, opened):
        async with opened(budget(limit={"tokens": 100})) as kept:
            reservation = await kept.reserve(ANYBODY, "company", "m", tokens(50))
            await reservation.release()
            with pytest.raises(RuntimeError, match="once"):
                await reservation.release()

    async def test_happens_to_a_reservation_whose_caller_left_before_it_had_it(self, opened):
        only = budget(limit={"tokens": 100})
        async with opened(only) as kept:
            reserving = asyncio.create_task(kept.reserve(ANYBODY, "company", "m", tokens(100)))
            await asyncio.sleep(0)
            reserving.cancel()
            await asyncio.wait([reserving])
            if not reserving.cancelled():  # it was faster
                await reserving.result().release()
        async with opened(only) as kept:
            assert (await one(kept)).reserved_tokens == 0


class TestABudgetThatWarns:
    async def test_never_refuses_and_says_by_how_much_it_is_exceeded(self, opened):
        soft = budget(name="soft", limit={"usd": 1.0}, action="warn")
        async with opened(soft) as kept:
            await spend(kept, usd(0.75))
            reservation = await kept.reserve(ANYBODY, "company", "m", usd(0.5))
            (notice,) = reservation.notices
        assert notice.reason == "BUDGET_WARNING"
        assert notice.message == (
            "budget 'soft' is exceeded: 0.75 USD of 1 USD spent, 0.5 USD set aside"
        )

    async def test_says_nothing_as_long_as_it_is_not_exceeded(self, opened):
        async with opened(budget(limit={"usd": 1.0}, action="warn")) as kept:
            assert (await kept.reserve(ANYBODY, "company", "m", usd(1.0))).notices == ()

    async def test_lets_calls_pass_whose_price_is_unknown(self, opened):
        async with opened(budget(limit={"usd": 1.0}, action="warn")) as kept:
            await spend(kept, tokens(10))
            assert (await one(kept)).spent_tokens == 10

    async def test_is_not_charged_where_a_hard_one_refuses(self, opened):
        soft = budget(name="soft", limit={"tokens": 5}, action="warn")
        async with opened(soft, budget(limit={"tokens": 10})) as kept:
            with pytest.raises(Exhausted):
                await kept.reserve(ANYBODY, "company", "m", tokens(11))
            assert (await one(kept, "soft")).reserved_tokens == 0


class TestTwoHundredCallsAtOnce:
    async def test_get_exactly_what_there_is(self, opened):
        async with opened(budget(limit={"tokens": 1000})) as kept:
            asked = [kept.reserve(ANYBODY, "company", "m", tokens(10)) for _ in range(200)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            held = [each for each in answers if not isinstance(each, Exhausted)]
            assert len(held) == 100
            assert (await one(kept)).reserved_tokens == 1000
            await asyncio.gather(*(each.settle(used(7), "chat") for each in held))
            state = await one(kept)
        assert (state.spent_tokens, state.reserved_tokens) == (700, 0)


class TestARestart:
    async def test_keeps_what_was_spent(self, opened):
        budgets = (
            budget(name="all", limit={"usd": 1.0}),
            budget(name="each", per=["agent"], limit={"tokens": 100}),
            budget(name="tree", window="run", limit={"tokens": 100}),
        )
        async with opened(*budgets) as kept:
            await spend(kept, Cost(30, 0.25))
            await spend(kept, Cost(20, 0.125), replace(ANYBODY, agent="other"))
            before = await kept.budgets("acme")
        async with opened(*budgets) as kept:
            assert await kept.budgets("acme") == before
            with pytest.raises(Exhausted, match="budget 'tree'"):
                await kept.reserve(ANYBODY, "company", "m", Cost(51, 0.0))
