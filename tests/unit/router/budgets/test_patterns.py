"""`*` stands for any text, and everything else for itself."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.router.budgets.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("acme", "acme"),
        ("*", ""),
        ("*", "anything\nat all"),
        ("team-*", "team-"),
        ("*-bot", "support-bot"),
        ("a*b*c", "aXbYbZc"),
        ("gpt-4?[1]", "gpt-4?[1]"),
    ],
)
def test_it_matches(pattern, name):
    assert Pattern(pattern).matches(name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("acme", "acmes"),
        ("acme", "Acme"),
        ("team-*", "my-team-1"),
        ("a*a", "a"),
        ("ab*bc", "abc"),
        ("a*b*c", "acb"),
        ("gpt-4?", "gpt-41"),
    ],
)
def test_it_does_not_match(pattern, name):
    assert not Pattern(pattern).matches(name)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_it_matches_what_a_shell_would_match(pattern, name):
    assert Pattern(pattern).matches(name) == fnmatchcase(name, pattern)
