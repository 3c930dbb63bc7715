"""What time it is, which no model knows."""

from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from servers.kernel.errors import InvalidInput
from servers.tools.declare import tool


class Clock:
    """`now` returns the current time with a zone; tests pass their own."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    @tool(idempotent=True, timeout=5.0)
    def current_time(self, timezone: str = "UTC") -> str:
        """Tell the current date, weekday and time in a time zone.

        Args:
            timezone: IANA name, for example "Europe/Berlin", "America/New_York" or "UTC"
        """
        moment = self._now().astimezone(_zone(timezone))
        return f"{moment.isoformat(timespec='seconds')} ({moment:%A}, {timezone})"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Europe" is a folder
        near = get_close_matches(name, available_timezones(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; use one like Europe/Berlin"
        raise InvalidInput(f"no time zone is named {name!r}{hint}") from None
