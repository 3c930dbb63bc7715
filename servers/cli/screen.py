"""Standard output and the log on one terminal, without running into each other."""

import os
import sys
from typing import TextIO, cast


class Screen:
    """What the program says to people; `log` is where the log goes.

    An answer is shown piece by piece. A log line in the middle of it begins a line of its
    own, where both go to the same place.
    """

    def __init__(self, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> None:
        self._out, self._err = out, err
        self._within_line = False
        self._shared = _same(out, err)
        self.log = cast(TextIO, _Log(self))

    def say(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self._out, flush=True)
        self._within_line = not (text + end).endswith("\n")

    def _write_log(self, text: str) -> int:
        if self._shared and self._within_line:
            self._within_line = False
            text = f"\n{text}"
        return self._err.write(text)


class _Log:
    """As much of a file as loggers use."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> int:
        return self._screen._write_log(text)

    def flush(self) -> None:
        self._screen._err.flush()

    def isatty(self) -> bool:
        return self._screen._err.isatty()


def _same(out: TextIO, err: TextIO) -> bool:
    try:
        one, other = os.fstat(out.fileno()), os.fstat(err.fileno())
    except (OSError, ValueError):  # no real files
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
