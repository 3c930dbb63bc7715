"""What Envoy writes becomes lines in our log: its own messages, and its access log."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

import orjson
import structlog

# What Envoy's --log-format makes of a message: a level, which part speaks, and the text.
FORMAT = "%l|%n|%v"
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_LONGEST = 64 * 1024  # bytes of one line; the rest of a longer one is a line of its own
_SHOWN = 400  # characters: complaints about a configuration quote all of it
_KEPT = 3  # messages that explain why Envoy went away

_log = structlog.stdlib.get_logger("astromesh.edge")


class Messages:
    """Envoy's own messages. While `quiet` they are for debugging only: a start that fails
    tells them in its error, and that it ends when told to is no news."""

    def __init__(self) -> None:
        self.quiet = True
        self._last: deque[str] = deque(maxlen=_KEPT)

    async def tell(self, stream: asyncio.StreamReader) -> None:
        """Log them until Envoy closes the stream."""
        level, part = logging.ERROR, "main"
        async for line in lines(stream):
            name, _, rest = line.partition("|")
            message = line
            if name in _LEVELS:  # else it goes on with the message before, or is a crash
                level = _LEVELS[name]
                part, _, message = rest.partition("|")
            self._last.append(message[:_SHOWN])
            _log.log(logging.DEBUG if self.quiet else level, message[:_SHOWN], part=part)

    def last(self) -> str:
        return " / ".join(self._last)


async def tell_requests(stream: asyncio.StreamReader) -> None:
    """Log what the access log says, until the stream ends."""
    async for line in lines(stream):
        try:
            facts = orjson.loads(line)
        except orjson.JSONDecodeError:
            facts = {"line": line[:_SHOWN]}
        _log.info("request", **{key: value for key, value in facts.items() if value is not None})


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length: StreamReader's own would raise for long ones."""
    rest = b""
    while piece := await stream.read(_LONGEST):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line:
                yield line.decode(errors="replace")
        if len(rest) > _LONGEST:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")
