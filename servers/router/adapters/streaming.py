"""Reads a streamed answer, whatever its dialect: pieces out, errors told apart, end required."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol

from servers.domain.chat import Finish, ReasoningPiece, Step, TextPiece
from servers.router.adapters.failures import garbage
from servers.router.adapters.http import Call, Http
from servers.router.adapters.patience import Patience
from servers.router.ports import ProviderDown, Timeouts

# What walking through JSON of an unexpected shape may raise.
MISSHAPEN = (KeyError, IndexError, TypeError, ValueError, AttributeError)


class Answer(Protocol):
    """An answer as its events arrive."""

    @property
    def ended(self) -> bool:
        """Whether the end marker was there: nothing more is to come."""
        ...

    @property
    def whole(self) -> bool:
        """Whether the answer is complete even where the stream just stops here."""
        ...

    def take(self, event: Any) -> tuple[bool, list[TextPiece | ReasoningPiece]]:
        """Returns whether the model got any further, and what is to be shown of it."""
        ...

    def finish(self) -> Finish: ...


async def streamed(
    http: Http,
    call: Call,
    timeouts: Timeouts,
    answer: Answer,
    event_of: Callable[[bytes, Call], Any | None],
) -> AsyncGenerator[Step, None]:
    """`event_of` reads a line; None is a line without meaning."""
    patience = Patience(timeouts)
    async with aclosing(http.lines(call, patience)) as lines:
        async for line in lines:
            if (event := event_of(line, call)) is None:
                continue
            try:
                progress, pieces = answer.take(event)
            except MISSHAPEN:
                raise garbage(call.base, "sent no piece of a chat", line, call.api_key) from None
            if progress:
                patience.progressed()
            for piece in pieces:
                yield piece
            if answer.ended:
                await _to_the_end(lines, patience)
                break
    if not answer.whole:
        raise garbage(call.base, "ended its answer before the end")
    yield answer.finish()


async def _to_the_end(lines: AsyncGenerator[bytes, None], patience: Patience) -> None:
    """A body that was read to its end leaves a connection that can be used again."""
    patience.lingering()
    with suppress(ProviderDown):
        async for _ in lines:
            pass
