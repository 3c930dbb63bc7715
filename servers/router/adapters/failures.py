"""What a provider's failure means: its own fault, the request's, or the configuration's."""

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from servers.kernel.errors import AstromeshError, InvalidInput, NotReady
from servers.router.ports import ProviderDown

LONGEST_PAUSE = 3600.0  # seconds; no provider is believed beyond an hour
_LONGEST_MESSAGE = 400  # characters
_SECRETS = re.compile(r"(?i)\b(bearer\s+\S+|(?:sk|pk|key|hf|gsk)[-_][\w*.-]{6,})")
_TEMPORARY = {408, 424, 425, 429}  # 424 is what Hugging Face's servers say of failed inference


def refusal(
    endpoint: str, status: int, body: bytes, api_key: str = "", pause: float = 0.0
) -> AstromeshError:
    """The error for an answer that is not 200."""
    said = redacted(message_of(body), api_key)
    what = f"{endpoint} answered {status}" + (f": {said}" if said else "")
    if status == 501:  # llama.cpp, where it was started for something else
        return NotReady(what, reason="MODEL_CANNOT")
    if status in _TEMPORARY or status >= 500:
        reason = "RATE_LIMITED" if status == 429 else "PROVIDER_FAILED"
        return ProviderDown(what, reason=reason, pause=pause)
    if status in (401, 402, 403):
        return NotReady(f"{what} (check the provider's api_key_env)", reason="PROVIDER_DENIED")
    if status == 404:
        return NotReady(f"{what} (check model and endpoint)", reason="MODEL_NOT_FOUND")
    if status < 400:
        return NotReady(f"{what}, not with 200 (check the endpoint)", reason="ENDPOINT_WRONG")
    return InvalidInput(what, reason="PROVIDER_REFUSED")


def garbage(endpoint: str, what: str, line: bytes = b"", api_key: str = "") -> ProviderDown:
    shown = f": {redacted(line[:80].decode(errors='replace'), api_key)!r}" if line else ""
    return ProviderDown(f"{endpoint} {what}{shown}", reason="BAD_ANSWER")


def in_stream(endpoint: str, error: Any, api_key: str = "") -> AstromeshError:
    """The error for one that a provider reports inside an answer that began with 200."""
    status = error.get("code") if isinstance(error, dict) else None
    code = status if isinstance(status, int) and 400 <= status < 600 else 500
    return refusal(endpoint, code, orjson.dumps({"error": error}), api_key)


def message_of(body: bytes) -> str:
    """What an error body says to people, whatever its shape."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _short(body.decode(errors="replace"))
    error = found.get("error", found) if isinstance(found, dict) else found
    for key in ("message", "detail", "error"):
        if isinstance(error, dict) and error.get(key):
            error = error[key]
    return _short(error if isinstance(error, str) else orjson.dumps(error).decode())


def redacted(text: str, api_key: str = "") -> str:
    """Providers like to quote the key they refuse."""
    if api_key:
        text = text.replace(api_key, "***")
    return _SECRETS.sub("***", text)


def retry_after(header: str, now: Callable[[], float]) -> float:
    """Seconds that Retry-After asks for, given as a number or as a date; 0 where it's neither."""
    if not header:
        return 0.0
    try:
        wait = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now()
    return min(max(0.0, wait), LONGEST_PAUSE) if wait == wait else 0.0  # NaN is no number


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."
