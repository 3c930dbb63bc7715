"""Tools of type timer: the run waits, and no process with it."""

import json
from datetime import UTC, datetime, timedelta

from servers.domain.chat import Json

LONGEST = timedelta(days=365)

PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "seconds": {"type": "number", "minimum": 0, "description": "how long to wait"},
        "until": {
            "type": "string",
            "format": "date-time",
            "description": "the time to wait for, as RFC 3339, instead of `seconds`",
        },
    },
}
DESCRIPTION = "Wait for some seconds or until a time, and go on then."


def awake_at(arguments: str, now: float) -> float:
    """Seconds since the epoch. Raises ValueError with what the model is to know."""
    try:
        said = json.loads(arguments)
        if not isinstance(said, dict):
            raise ValueError("not an object")
        until = _time(said, now)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"Give either `seconds` (a number) or `until` (a time like 2026-01-31T09:00:00Z): "
            f"{error}"
        ) from error
    if until - now > LONGEST.total_seconds():
        raise ValueError(f"At most {LONGEST.days} days can be waited for.")
    return until


def _time(said: Json, now: float) -> float:
    if set(said) == {"seconds"}:
        seconds = float(said["seconds"])
        if not seconds >= 0:
            raise ValueError("`seconds` is not negative")
        return now + seconds
    if set(said) == {"until"}:
        time = datetime.fromisoformat(said["until"])
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    raise ValueError("one of both")


def slept(now: float) -> str:
    return f"The time has come. It is {datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}."
