"""Log lines can be read, by people or machines, and keep secrets to themselves."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from servers.kernel.logs import about, configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where lines go; the process logs afterwards as it did before."""
    handlers, level = logging.root.handlers[:], logging.root.level
    configured = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**configured)
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestJsonLines:
    def test_say_what_happened_and_in_whose_run(self, stream):
        configure_logs("json", stream=stream, trace_id=lambda: "abc")
        with about(run_id="r-1", agent="assistant"):
            structlog.stdlib.get_logger("x").info("tool called", tool="calculator")
        (line,) = lines(stream)
        del line["timestamp"]
        assert line == {
            "event": "tool called",
            "level": "info",
            "run_id": "r-1",
            "agent": "assistant",
            "tool": "calculator",
            "trace_id": "abc",
        }

    def test_forget_the_run_when_it_is_over(self, stream):
        configure_logs("json", stream=stream)
        with about(run_id="r-1"):
            pass
        structlog.stdlib.get_logger("x").info("later")
        assert "run_id" not in lines(stream)[0]

    def test_of_libraries_look_the_same(self, stream):
        configure_logs("json", stream=stream)
        with about(run_id="r-1"):
            logging.getLogger("some.library").warning("odd: %s", 7)
        (line,) = lines(stream)
        assert (line["event"], line["logger"], line["run_id"]) == ("odd: 7", "some.library", "r-1")

    def test_carry_the_traceback_in_one_line(self, stream):
        configure_logs("json", stream=stream)
        structlog.stdlib.get_logger("x").error("bug", exc_info=ValueError("broken"))
        assert "ValueError: broken" in str(lines(stream)[0]["exception"])

    def test_below_the_level_are_left_out(self, stream):
        configure_logs("json", "warning", stream=stream)
        structlog.stdlib.get_logger("x").info("chatter")
        logging.getLogger("some.library").info("chatter")
        assert lines(stream) == []

    def test_of_every_single_http_request_are_left_out(self, stream):
        configure_logs("json", stream=stream)
        logging.getLogger("httpx").info("HTTP Request: GET http://127.0.0.1")
        assert lines(stream) == []

    def test_of_processors_that_faiss_is_not_made_for_are_left_out(self, stream):
        configure_logs("json", stream=stream)
        logging.getLogger("faiss.loader").info("Could not load library with AVX512 support")
        assert lines(stream) == []


class TestSecrets:
    @pytest.mark.parametrize(
        "key", ["api_key", "Authorization", "token", "client_secret", "PASSWORD"]
    )
    def test_are_hidden_by_their_key(self, stream, key):
        configure_logs("json", stream=stream)
        structlog.stdlib.get_logger("x").info("call", **{key: "hunter2"})
        assert "hunter2" not in stream.getvalue()

    def test_are_hidden_deep_inside(self, stream):
        configure_logs("json", stream=stream)
        structlog.stdlib.get_logger("x").info("call", model={"parts": [{"api_key": "hunter2"}]})
        assert "hunter2" not in stream.getvalue()

    @pytest.mark.parametrize(
        "text",
        [
            "Authorization: Bearer hunter2",
            "POST /?api_key=hunter2&x=1",
            '{"password": "hunter2"}',
            "token=hunter2",
        ],
    )
    def test_are_hidden_in_texts(self, stream, text):
        configure_logs("json", stream=stream)
        logging.getLogger("some.library").warning(text)
        assert "hunter2" not in stream.getvalue()

    def test_are_hidden_in_tracebacks(self, stream):
        configure_logs("json", stream=stream)
        error = ValueError("refused: api_key=hunter2")
        structlog.stdlib.get_logger("x").error("bug", exc_info=error)
        assert "hunter2" not in stream.getvalue()

    def test_are_not_what_counts_tokens(self, stream):
        configure_logs("json", stream=stream)
        structlog.stdlib.get_logger("x").info("call", prompt_tokens=12)
        assert lines(stream)[0]["prompt_tokens"] == 12


class TestText:
    def test_is_one_readable_line(self, stream):
        configure_logs("text", stream=stream)
        with about(run_id="r-1"):
            structlog.stdlib.get_logger("x").warning("breaker opened", provider="local")
        (line,) = stream.getvalue().splitlines()
        assert "breaker opened" in line
        assert "provider=local" in line
        assert "run_id=r-1" in line

    def test_has_no_colours_where_nobody_sees_them(self, stream):
        configure_logs("text", stream=stream)
        structlog.stdlib.get_logger("x").warning("breaker opened")
        assert "\x1b" not in stream.getvalue()
