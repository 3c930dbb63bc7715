"""Times on the command line."""

from datetime import UTC, datetime

import pytest

from servers.cli.spending import moment
from servers.kernel.errors import InvalidInput

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90m", datetime(2026, 11, 25, 10, 30, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 18, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 11, 12, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:30", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("2026-11-01T10:30+02:00", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_while_ago_or_a_date(text, meant):
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["yesterday", "7", "7y", "-1d", "2026-13-01"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidInput, match="is no time: give"):
        moment(text, NOW)
