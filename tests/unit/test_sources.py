"""Which sources a run that has ended names."""

import pytest

from servers.domain.sources import MOST_SOURCES, Source, sources_of


def found(*numbers: int) -> list[Source]:
    return [Source(n, f"{n}.txt", "", "", 0, 9, 0.5) for n in numbers]


def cited(answer: str, *numbers: int) -> list[int]:
    return [each.number for each in sources_of(answer, found(*numbers)) if each.cited]


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("Thirty days [1].", [1]),
        ("Thirty [1][3].", [1, 3]),
        ("Thirty [1, 3].", [1, 3]),
        ("Thirty [1; 2].", [1, 2]),
        ("Thirty [^2].", [2]),
        ("a[1] + (2) + 3 [x1] [ 2 ] []", [1]),
        ("Of the year [2024], of [9].", []),
        ('{"said": "Thirty [1].", "pages": [2, 3], "a \\" [3]": []}', [1, 3]),
        ('{"pages": [2, 3]}', []),
        ("{Thirty} [2]", [2]),
        ("", []),
    ],
)
def test_numbers_in_brackets_are_cited(answer, numbers):
    assert cited(answer, 1, 2, 3) == numbers


def test_the_others_are_there_too_in_the_order_of_their_numbers():
    kept = sources_of("So [3].", found(2, 3, 1))
    assert [(each.number, each.cited) for each in kept] == [(1, False), (2, False), (3, True)]


def test_of_very_many_those_that_are_cited_are_there():
    kept = sources_of("So [250].", found(*range(1, 251)))
    assert len(kept) == MOST_SOURCES
    assert (kept[-1].number, kept[-1].cited) == (250, True)


def test_no_answer_takes_long_to_read():
    assert sources_of("[1" * 100_000 + ", 1" * 100_000, found(1)) == tuple(found(1))
