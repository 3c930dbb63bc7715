"""Lists of a mesh, read page after page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from servers.cli.client import PATIENCE

_PAGE = 200


async def paged(
    ask: Callable[..., Awaitable[Any]], request: Any, items: str, limit: int | None = None
) -> AsyncIterator[Any]:
    """What `items` names in the answers; at most `limit`, all where it is None."""
    left = limit
    while left is None or left > 0:
        request.page_size = _PAGE if left is None else min(left, _PAGE)
        answer = await ask(request, timeout=PATIENCE)
        for each in getattr(answer, items):
            yield each
        if left is not None:
            left -= len(getattr(answer, items))
        request.page_token = answer.next_page_token
        if not request.page_token:
            return
