"""What happens over and over is told once a minute, with how often it happened."""

from servers.router.budgets.sparing import Sparing
from tests.contract.spending_fixture import Clock


def test_the_first_time_is_told():
    assert Sparing(Clock(0)).times("x") == 1


def test_the_next_ones_are_told_together_after_a_minute():
    clock = Clock(0)
    sparing = Sparing(clock)
    sparing.times("x")
    clock.now = 59
    assert [sparing.times("x"), sparing.times("x")] == [0, 0]
    clock.now = 60
    assert sparing.times("x") == 3


def test_different_things_are_told_apart():
    sparing = Sparing(Clock(0))
    assert [sparing.times("x"), sparing.times("y")] == [1, 1]


def test_not_everything_is_remembered_for_ever():
    sparing = Sparing(Clock(0))
    for number in range(5000):
        sparing.times(number)
    assert len(sparing._told) == 1000
