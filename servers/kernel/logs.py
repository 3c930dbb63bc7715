"""What the mesh says while it works: readable lines for people, or JSON for machines.

Log with ``structlog.stdlib.get_logger(name)``; what libraries log through the standard
library comes out alike. Lines carry what `about` says of the work at hand, and no secrets.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

Format = Literal["text", "json"]

HIDDEN = "***"
_SECRET = r"(?:api[_-]?key|authorization|secret|passw(?:or)?d|credential|(?<![a-z])token(?!s))"
_SECRET_KEY = re.compile(_SECRET, re.IGNORECASE)
_SECRET_TEXT = re.compile(
    rf"""({_SECRET}[\w-]*["']?\s*[:=]\s*["']?)(?:(Bearer|Basic)\s+)?[^\s"',;&]+""", re.IGNORECASE
)
# At their info level these tell of every single request, and FAISS of each processor that it
# isn't made for.
_CHATTY = (
    "httpx",
    "httpcore",
    "aiohttp.access",
    "asyncio",
    "watchfiles",
    "grpc._cython.cygrpc",
    "faiss",
)


def configure_logs(
    form: Format = "text",
    level: str = "info",
    stream: TextIO = sys.stderr,
    trace_id: Callable[[], str] = str,
) -> None:
    """Say how this process logs. Call it once, before anything logs.

    `trace_id` gives the id of the trace that the caller works in, or nothing.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        redact,
        _traced(trace_id),
        _stamped(form),
    ]
    last = _renderer(form, stream)
    structlog.configure(
        processors=[*first, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_named, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def about(**facts: str) -> AbstractContextManager[None]:
    """Lines logged inside carry these: run_id, agent, tenant, ..."""
    return structlog.contextvars.bound_contextvars(**facts)


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Hide values whose key, or whose place in a text, says that they are secret."""
    return {key: HIDDEN if _secret(key, value) else _clean(value) for key, value in event.items()}


def _secret(key: object, value: object) -> bool:
    return bool(value) and isinstance(key, str) and _named_secret(key)


@lru_cache(1024)
def _named_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(value: Any) -> Any:
    if isinstance(value, str):  # most texts are spared the search
        return _SECRET_TEXT.sub(rf"\1{HIDDEN}", value) if "=" in value or ":" in value else value
    if isinstance(value, Mapping):
        return {k: HIDDEN if _secret(k, v) else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value


def _stamped(form: Format) -> Processor:
    if form == "json":
        return structlog.processors.TimeStamper(fmt="iso", utc=True)

    def stamp(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["timestamp"] = datetime.now().strftime("%H:%M:%S.%f")[:-3]
        return event

    return stamp


def _traced(trace_id: Callable[[], str]) -> Processor:
    def add(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if known := trace_id():
            event["trace_id"] = known
        return event

    return add


def _named(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["logger"] = event["_record"].name
    return event


def _renderer(form: Format, stream: TextIO) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(serializer=_json)
    # Rich tracebacks would print local variables, and with them secrets.
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(),
        pad_event_to=0,
        pad_level=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _json(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
