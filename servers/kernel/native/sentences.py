"""What the compiled functions for sentences mean: where one ends, and chunks of whole ones.

A sentence ends after a run of `.!?…` and the quotes and brackets that close after it, where white
space or the end follows; after their full-width twins at once; and at an empty line. It goes on
  - where a lower-case letter comes next (of Latin-1, Greek or Cyrillic);
  - after a single `.` behind a lone letter (J. Smith, e.g., U.S.), behind a title or the like
    (`TITLES`), behind a word that announces a number if one follows (`NUMBERED`), and behind
    the number that a sentence begins with, as in lists.

native_cpp/include/astromesh/sentences.hpp is this code in the same order.
"""

import re

from servers.kernel.native.chunks import Length, Span, check_sizes, recursive_chunks

TITLES = frozenset(
    re.findall(
        r"\w+",
        "al approx capt cf col dr eds gen hon jr lt mlle mme mr mrs ms prof rev sgt sr st vs",
    )
)
NUMBERED = frozenset(
    re.findall(
        r"\w+",
        "apr art aug bd dec eq feb fig figs jan jul jun mar no nov nr oct pp sec sep sept vol",
    )
)

_ENDS = re.compile(
    r"""(?<![.!?\u2026])(?P<stop>[.!?\u2026]+)["'\u201d\u2019\u00bb)\]}]*(?=\s|\Z)"""
    r"""|[\u3002\uff01\uff1f\uff61]+["'\u201d\u2019\u00bb)\]}\u300d\u300f\uff09\u3011]*"""
    r"""|\n[^\S\n]*\n"""
)
_SPACE = re.compile(r"\s*")
_LOWER = re.compile(r"[a-z\u00df-\u00f6\u00f8-\u00ff\u03b1-\u03c9\u0430-\u045f]")
_LETTER = re.compile(r"[0-9A-Za-z\u00c0-\u052f]")
_WORD = re.compile(r"[A-Za-z]{1,8}\Z")
_LONGEST_WORD, _LONGEST_NUMBER = 8, 9


def sentence_spans(text: str) -> list[Span]:
    """The sentences, without the white space around them. Between them is nothing else."""
    spans = []
    start = _after_space(text, 0)
    at = start
    while found := _ENDS.search(text, at):
        at = found.end()
        after = _after_space(text, at)
        if found["stop"] and _goes_on(text, start, found, after):
            continue
        if start < found.end():
            spans.append((start, start + len(text[start : found.end()].rstrip())))
        start = at = after
    if start < len(text):
        spans.append((start, start + len(text[start:].rstrip())))
    return spans


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _goes_on(text: str, start: int, stop: re.Match[str], after: int) -> bool:
    if after < len(text) and _LOWER.match(text, after):
        return True
    if stop[0] != ".":
        return False
    point = stop.start()
    if 0 < point - start <= _LONGEST_NUMBER and _are_digits(text[start:point]):
        return True
    word = _WORD.search(text, max(start, point - _LONGEST_WORD), point)
    if not word or (word.start() > start and _LETTER.match(text, word.start() - 1)):
        return False
    name = word[0].lower()
    return (
        len(name) == 1
        or name in TITLES
        or (name in NUMBERED and _are_digits(text[after : after + 1]))
    )


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def sentence_chunks(text: str, size: int, overlap: int = 0, length: Length = len) -> list[Span]:
    """Chunks of whole sentences, as many as fit in `size`.

    Each begins with the last whole sentences of the one before, as many as fit in `overlap` and
    leave room for the next. A sentence longer than `size` is cut at lines, words or anywhere; its
    parts are chunks of their own, which share nothing with their neighbours.
    """
    check_sizes(size, overlap)
    sentences = sentence_spans(text)
    chunks: list[Span] = []
    first = 0

    def measure(a: int, b: int) -> int:
        return length(text[sentences[a][0] : sentences[b][1]])

    for at, (start, end) in enumerate(sentences):
        if measure(at, at) > size:
            if first < at:
                chunks.append((sentences[first][0], sentences[at - 1][1]))
            parts = recursive_chunks(text[start:end], size, 0, ("\n", " ", ""), length=length)
            chunks += [(start + part[0][0], start + part[-1][1]) for part in parts]
            first = at + 1
        elif first < at and measure(first, at) > size:
            chunks.append((sentences[first][0], sentences[at - 1][1]))
            # Never all of them: with this one they were too many.
            floor, first = first, at
            while (
                first > floor
                and measure(first - 1, at - 1) <= overlap
                and measure(first - 1, at) <= size
            ):
                first -= 1
    if first < len(sentences):
        chunks.append((sentences[first][0], sentences[-1][1]))
    return chunks
