"""When a provider is left alone, and when it is asked again."""

from math import inf

from servers.domain.models import BreakerState
from servers.router.lanes.breaker import Admission, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(times: int, clock: Clock | None = None) -> Breaker:
    breaker = Breaker(limit=3, cooldown=60, now=clock or Clock())
    for _ in range(times):
        breaker.failed(breaker.admit())
    return breaker


class TestABreaker:
    def test_admits_calls_at_first(self):
        assert Breaker().admit() is Admission.CALL

    def test_admits_calls_below_the_limit(self):
        assert failing(2).admit()

    def test_refuses_calls_at_the_limit(self):
        assert not failing(3).admit()

    def test_forgets_failures_on_a_success(self):
        breaker = failing(2)
        breaker.succeeded()
        breaker.failed()
        assert breaker.admit()

    def test_lets_exactly_one_probe_through_after_the_cooldown(self):
        clock = Clock()
        breaker = failing(3, clock)
        clock.now = 59.9
        assert not breaker.admit()
        clock.now = 60.0
        assert [breaker.admit(), breaker.admit()] == [Admission.PROBE, Admission.REFUSED]

    def test_is_half_open_while_it_may_be_probed(self):
        clock = Clock()
        breaker = failing(3, clock)
        assert breaker.state is BreakerState.OPEN
        clock.now = 60.0
        assert breaker.state is BreakerState.HALF_OPEN
        breaker.succeeded(breaker.admit())
        assert breaker.state is BreakerState.CLOSED

    def test_opens_for_another_cooldown_when_the_probe_fails(self):
        clock = Clock()
        breaker = failing(3, clock)
        clock.now = 60.0
        breaker.failed(breaker.admit())
        assert breaker.remaining == 60.0

    def test_lets_another_probe_through_when_one_was_abandoned(self):
        clock = Clock()
        breaker = failing(3, clock)
        clock.now = 60.0
        breaker.abandoned(breaker.admit())
        assert breaker.admit() is Admission.PROBE

    def test_opens_at_once_for_as_long_as_the_provider_asks(self):
        breaker = Breaker(now=Clock())
        breaker.failed(breaker.admit(), pause=7.0)
        assert breaker.remaining == 7.0


class TestACallThatWasUnderWayWhenTheBreakerOpened:
    def opened(self) -> tuple[Breaker, Clock, Admission]:
        clock = Clock()
        breaker = Breaker(limit=3, cooldown=60, now=clock)
        late = breaker.admit()
        for _ in range(3):
            breaker.failed(breaker.admit())
        return breaker, clock, late

    def test_does_not_close_it_by_its_success(self):
        breaker, _, late = self.opened()
        breaker.succeeded(late)
        assert not breaker.admit()

    def test_does_not_prolong_it_by_its_failure(self):
        breaker, clock, late = self.opened()
        clock.now = 30.0
        breaker.failed(late)
        assert breaker.remaining == 30.0

    def test_does_not_let_a_second_probe_through_by_leaving(self):
        breaker, clock, late = self.opened()
        clock.now = 60.0
        breaker.admit()
        breaker.abandoned(late)
        assert not breaker.admit()


class TestABreakerForcedOpen:
    def test_never_lets_a_probe_through(self):
        clock = Clock()
        breaker = Breaker(now=clock)
        breaker.force_open()
        clock.now = 1e9
        assert not breaker.admit()
        assert breaker.remaining == inf

    def test_is_not_closed_by_a_call_that_was_under_way(self):
        breaker = Breaker(now=Clock())
        late = breaker.admit()
        breaker.force_open()
        breaker.succeeded(late)
        assert (breaker.state, breaker.forced) == (BreakerState.OPEN, True)

    def test_is_closed_by_hand(self):
        breaker = Breaker(now=Clock())
        breaker.force_open()
        breaker.reset()
        assert (breaker.admit(), breaker.forced) == (Admission.CALL, False)
