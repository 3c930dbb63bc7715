"""Answers and log lines on one terminal stay apart."""

import os
from collections.abc import Iterator

import pytest

from servers.cli.screen import Screen


@pytest.fixture
def terminal(tmp_path) -> Iterator[tuple[Screen, os.PathLike[str]]]:
    """A screen whose both streams end up in one file."""
    path = tmp_path / "terminal"
    with path.open("a") as out, path.open("a") as err:
        yield Screen(out, err), path


def log(screen: Screen, line: str) -> None:
    screen.log.write(f"{line}\n")
    screen.log.flush()


def test_a_log_line_within_an_answer_begins_a_line_of_its_own(terminal):
    screen, path = terminal
    screen.say("half an", end="")
    log(screen, "logged")
    screen.say(" answer")
    assert path.read_text() == "half an\nlogged\n answer\n"


def test_a_log_line_between_answers_is_as_it_is(terminal):
    screen, path = terminal
    screen.say("answer")
    log(screen, "logged")
    assert path.read_text() == "answer\nlogged\n"


def test_a_log_that_goes_elsewhere_is_as_it_is(tmp_path):
    with (tmp_path / "out").open("a") as out, (tmp_path / "err").open("a") as err:
        screen = Screen(out, err)
        screen.say("half an", end="")
        log(screen, "logged")
    assert (tmp_path / "err").read_text() == "logged\n"
