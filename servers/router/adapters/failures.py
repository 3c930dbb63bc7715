"""What a provider's failure means: its own fault, the request's, or the configuration's."""

import re
from collections.abc import Callable, Mapping
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
_FILTERED = "content_filter"  # Azure's code for a prompt that its policy does not let through
# What an error inside a stream says instead of a status.
_STATUS = {
    _FILTERED: 400,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
    "validation": 422,
    "template_error": 422,
    "tool_error": 422,
    "overloaded": 429,
    "generation": 424,
}


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
    if (refused := _filtered(body)) is not None:
        return InvalidInput(
            f"{endpoint} does not let this prompt through its content filter{refused}: {said}",
            reason="CONTENT_FILTERED",
        )
    return InvalidInput(what, reason="PROVIDER_REFUSED")


def garbage(endpoint: str, what: str, line: bytes = b"", api_key: str = "") -> ProviderDown:
    shown = f": {redacted(line[:80].decode(errors='replace'), api_key)!r}" if line else ""
    return ProviderDown(f"{endpoint} {what}{shown}", reason="BAD_ANSWER")


def in_stream(endpoint: str, event: Mapping[str, Any], api_key: str = "") -> AstromeshError:
    """The error for one that a provider reports inside an answer that began with 200."""
    error = event["error"]
    said = error if isinstance(error, Mapping) else {}
    told = (said.get("code"), said.get("http_status_code"), event.get("error_type"))
    known = (_STATUS.get(each, each) if isinstance(each, str) else each for each in told)
    code = next((each for each in known if isinstance(each, int) and 400 <= each < 600), 500)
    return refusal(endpoint, code, orjson.dumps({"error": error}), api_key)


def message_of(body: bytes) -> str:
    """What an error body says to people, whatever its shape."""
    try:
        error = _error(orjson.loads(body))
    except orjson.JSONDecodeError:
        return _short(body.decode(errors="replace"))
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


def _error(found: Any) -> Any:
    return found.get("error", found) if isinstance(found, dict) else found


def _filtered(body: bytes) -> str | None:
    """What a content filter objects to, in words; None for any other refusal."""
    try:
        error = _error(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(error, dict) or error.get("code") != _FILTERED:
        return None
    inner = error.get("innererror") or error.get("inner_error") or {}
    found = inner.get("content_filter_result") or inner.get("content_filter_results") or {}
    verdicts = ((name, each) for name, each in sorted(found.items()) if isinstance(each, dict))
    shown = ", ".join(name for name, verdict in verdicts if verdict.get("filtered"))
    return f" ({shown})" if shown else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."
