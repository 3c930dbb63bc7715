"""How what Envoy writes becomes our log."""

import asyncio

import structlog

from servers.edge.output import Messages, lines, tell_requests


def stream(written: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(written)
    reader.feed_eof()
    return reader


async def told(written: bytes, quiet: bool = False) -> list[dict]:
    messages = Messages()
    messages.quiet = quiet
    with structlog.testing.capture_logs() as log:
        await messages.tell(stream(written))
    return [{k: line[k] for k in ("log_level", "part", "event")} for line in log]


async def test_a_message_keeps_its_level_and_names_its_part():
    (line,) = await told(b"warning|config|deprecated | really\n")
    assert line == {"log_level": "warning", "part": "config", "event": "deprecated | really"}


async def test_a_second_line_of_a_message_has_its_level():
    assert [line["log_level"] for line in await told(b"warning|main|one\ntwo\n")] == ["warning"] * 2


async def test_a_line_of_no_known_form_is_an_error():
    (line,) = await told(b"Segmentation fault\n")
    assert line == {"log_level": "error", "part": "main", "event": "Segmentation fault"}


async def test_messages_of_a_quiet_time_are_for_debugging():
    (line,) = await told(b"critical|main|error\n", quiet=True)
    assert line["log_level"] == "debug"


async def test_the_last_messages_are_kept_and_cut():
    messages = Messages()
    await messages.tell(stream(b"a\nb\nc\nerror|main|" + b"d" * 1000))
    assert messages.last() == "b / c / " + "d" * 400


async def test_a_line_of_any_length_passes():
    long = [line async for line in lines(stream(b"x" * 200_000 + b"\nshort\n"))]
    assert "".join(long) == "x" * 200_000 + "short"
    assert long[-1] == "short"


async def test_a_request_becomes_a_line_without_what_is_unknown():
    with structlog.testing.capture_logs() as log:
        await tell_requests(stream(b'{"status":404,"grpc_status":null}\n'))
    assert log == [{"event": "request", "log_level": "info", "status": 404}]
