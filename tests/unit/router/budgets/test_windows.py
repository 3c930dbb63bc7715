"""Windows begin and end by the calendar, in UTC, without a gap and without an overlap."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.domain.usage import Window
from servers.router.budgets.windows import bounds


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.HOUR, (2026, 12, 31, 23), (2027, 1, 1)),
        (Window.DAY, (2026, 12, 31), (2027, 1, 1)),
        (Window.MONTH, (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_a_window_is_a_piece_of_the_calendar(window, start, end):
    assert bounds(window, at(2026, 12, 31, 23, 59, 59) + 0.999) == (at(*start), at(*end))


def test_february_has_29_days_in_a_leap_year():
    assert bounds(Window.MONTH, at(2028, 2, 10)) == (at(2028, 2, 1), at(2028, 3, 1))


def test_a_run_has_neither_begin_nor_end():
    assert bounds(Window.RUN, 1.5e9) == (0, None)


@given(st.sampled_from([Window.HOUR, Window.DAY, Window.MONTH]), st.floats(0, 4e9))
def test_every_moment_is_in_its_window_and_the_next_one_begins_where_it_ends(window, moment):
    start, end = bounds(window, moment)
    assert end is not None
    assert start <= moment < end
    assert bounds(window, end)[0] == end
    assert bounds(window, start) == (start, end)
