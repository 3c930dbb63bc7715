"""KEY=VALUE of the command line."""

import pytest

from servers.cli.pairs import pairs, wanted
from servers.kernel.errors import InvalidInput


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("a=b", "a=b"),
        ("", ""),
        ("00123", "00123"),  # a postcode keeps its noughts
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("Infinity", "Infinity"),
        ("٣", "٣"),
    ],
)
def test_a_value_that_reads_as_in_json_is_that(written, value):
    ((key, read),) = pairs([f"k={written}"])
    assert (key, read) == ("k", value)
    assert type(read) is type(value)


@pytest.mark.parametrize("written", ["k", "=v"])
def test_anything_else_is_refused(written):
    with pytest.raises(InvalidInput, match="write KEY=VALUE"):
        list(pairs([written]))


def test_of_a_key_that_is_written_twice_any_value_is_wanted():
    assert wanted(["k=a", "k=b", "n=1"]) == {"k": ["a", "b"], "n": [1]}
