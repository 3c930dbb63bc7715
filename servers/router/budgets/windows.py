"""When a budget's windows begin and end: by the calendar, in UTC."""

from datetime import UTC, datetime

from servers.domain.usage import Window

_HOUR, _DAY = 3600, 86400


def bounds(window: Window, at: float) -> tuple[int, int | None]:
    """Begin and end of the window that has the time `at`; a run's is without either: (0, None)."""
    match window:
        case Window.RUN:
            return 0, None
        case Window.HOUR:
            return _grid(_HOUR, at)
        case Window.DAY:
            return _grid(_DAY, at)
        case Window.MONTH:
            first = datetime.fromtimestamp(at, UTC).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            later = first.month % 12 + 1
            following = first.replace(year=first.year + (later == 1), month=later)
            return int(first.timestamp()), int(following.timestamp())


def _grid(width: int, at: float) -> tuple[int, int]:
    start = int(at // width) * width
    return start, start + width
