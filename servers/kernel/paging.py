"""Lists in pages: how large one may be, and opaque tokens that say where the next begins."""

import base64
import binascii
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, TypeVar

import orjson

from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.stored_json import dumps

T = TypeVar("T")

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
MOST_BYTES = 16 << 20  # of a page as JSON: on the way it may grow, and a message has 64 MiB


def page_limit(page_size: int) -> int:
    """How many items a page gets: 0 asks for the default, too many gets the most there is."""
    if page_size < 0:
        raise _wrong("page_size", f"{page_size} is negative: ask for 1 to {LARGEST_SIZE}, or 0")
    return min(page_size or DEFAULT_SIZE, LARGEST_SIZE)


def _size(item: object) -> int:
    return len(dumps(item))


def fitting(
    found: Iterable[T], limit: int, size: Callable[[T], int] = _size
) -> tuple[list[T], bool]:
    """The first ones, `limit` at most and as many as fit into a message, and whether there are
    more. One that is too large for any page is a page by itself."""
    page: list[T] = []
    total = 0
    for each in found:
        total += size(each)
        if len(page) == limit or (page and total > MOST_BYTES):
            return page, True
        page.append(each)
    return page, False


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
