"""How often and how much: rate limits and result budgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel.errors import InvalidInput
from servers.kernel.result_budget import cut, estimate_tokens
from servers.tools.limits import RateLimit, SlidingWindows, rate_limit_from

KEY = ("acme", "support", "search")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestASlidingWindow:
    def test_admits_as_many_calls_as_it_says(self):
        windows = SlidingWindows(Clock())
        assert [windows.admit(KEY, RateLimit(2, 60)) for _ in range(3)] == [0.0, 0.0, 60.0]

    def test_admits_again_when_the_oldest_call_has_left_it(self):
        clock = Clock()
        windows = SlidingWindows(clock)
        for clock.now in (0.0, 40.0):
            windows.admit(KEY, RateLimit(2, 60))
        clock.now = 59.0
        assert windows.admit(KEY, RateLimit(2, 60)) == 1.0
        clock.now = 60.0
        assert windows.admit(KEY, RateLimit(2, 60)) == 0.0

    def test_does_not_count_refused_calls(self):
        clock = Clock()
        windows = SlidingWindows(clock)
        for clock.now in (0.0, 30.0, 59.0):
            windows.admit(KEY, RateLimit(1, 60))
        clock.now = 60.0
        assert windows.admit(KEY, RateLimit(1, 60)) == 0.0

    @pytest.mark.parametrize(
        "other", [("else", "support", "search"), ("acme", "x", "search"), ("acme", "support", "y")]
    )
    def test_is_its_own_for_each_tenant_agent_and_tool(self, other):
        windows = SlidingWindows(Clock())
        windows.admit(KEY, RateLimit(1, 60))
        assert windows.admit(other, RateLimit(1, 60)) == 0.0

    def test_is_forgotten_once_it_is_idle(self):
        clock = Clock()
        windows = SlidingWindows(clock)
        for number in range(3000):
            clock.now = float(number)
            windows.admit(("acme", "support", str(number)), RateLimit(1, 10))
        assert len(windows._calls) <= 1024


class TestARateLimit:
    def test_is_read_from_an_agents_words(self):
        assert rate_limit_from({"max_calls": 3, "window_seconds": 60}) == RateLimit(3, 60.0)

    def test_may_be_left_out(self):
        assert rate_limit_from(None) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            "often",
            {"max_calls": 0, "window_seconds": 1},
            {"max_calls": 1, "window_seconds": 0},
            {"max_calls": 1, "window_seconds": "nan"},
            {"max_calls": float("inf"), "window_seconds": 1},
        ],
    )
    def test_that_is_none_is_refused(self, wrong):
        with pytest.raises(InvalidInput, match="max_calls"):
            rate_limit_from(wrong)


class TestAResultBudget:
    def test_leaves_alone_what_fits(self):
        assert cut("x" * 400, 100) == ("x" * 400, 0)

    def test_says_how_much_is_missing(self):
        text, missing = cut("x" * 8000, 1000)
        assert missing == 1006
        assert text.endswith("\n[... 1006 tokens cut]")

    def test_below_the_marker_leaves_only_the_marker(self):
        assert cut("x" * 400, 0) == ("\n[... 100 tokens cut]", 100)

    @given(st.text(max_size=2000), st.integers(6, 600))
    def test_is_never_exceeded(self, text, budget):
        assert estimate_tokens(cut(text, budget)[0]) <= budget

    @given(st.text(max_size=2000), st.integers(0, 600))
    def test_accounts_for_every_token(self, text, budget):
        short, missing = cut(text, budget)
        if missing:
            kept = short.rpartition("\n[...")[0]
            assert text.startswith(kept)
            assert estimate_tokens(kept) + missing == estimate_tokens(text)
