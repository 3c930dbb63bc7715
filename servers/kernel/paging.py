"""Lists in pages: how large one may be, and opaque tokens that say where the next begins."""

import base64
import binascii
from hashlib import blake2b
from typing import Any

import orjson

from servers.kernel.errors import InvalidInput, Violation

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000


def page_limit(page_size: int) -> int:
    """How many items a page gets: 0 asks for the default, too many gets the most there is."""
    if page_size < 0:
        raise _wrong("page_size", f"{page_size} is negative: ask for 1 to {LARGEST_SIZE}, or 0")
    return min(page_size or DEFAULT_SIZE, LARGEST_SIZE)


def token(scope: object, *position: str | int | float) -> str:
    """A token for the place after `position` in the list that `scope` describes."""
    return base64.urlsafe_b64encode(orjson.dumps([_mark(scope), *position])).decode().rstrip("=")


def position(scope: object, page_token: str, *kinds: type) -> list[Any]:
    """What `token` was given. Refuses tokens that were made up, or made for another list."""
    try:
        padded = page_token + "=" * (-len(page_token) % 4)
        mark, *found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise _wrong("page_token", f"{page_token!r} is not one of ours") from None
    if mark != _mark(scope) or [type(each) for each in found] != list(kinds):
        raise _wrong("page_token", f"{page_token!r} belongs to another list: start without one")
    return list(found)


def _mark(scope: object) -> str:
    return blake2b(repr(scope).encode("utf-8", "replace"), digest_size=6).hexdigest()


def _wrong(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", violations=(Violation(field, why),))
