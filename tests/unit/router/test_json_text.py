"""Models put words, fences and thoughts around their JSON."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.router.chats.json_text import objects

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def first(text: str):
    return next(objects(text), (None, None))[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '\n {"a": 1} \n',
        '```json\n{"a": 1}\n```',
        'Here it is:\n```\n{"a": 1}\n```\nAnything else?',
        'Sure! {"a": 1} is what you want.',
        'With {curly} words: {"a": 1}',
        '<think>an object {x: y}?</think>{"a": 1}',
    ],
)
def test_an_object_is_found_whatever_is_around_it(text):
    assert next(objects(text)) == ('{"a": 1}', {"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "[1, 2]",
        '"text"',
        '{"a": NaN}',
        r'{"a": "half a character: \ud800"}',
        '{"a": 1',
        '{"a": {"b": 1}, "c": [',
        '```json\n{"a": {"b": 1}, "c"',
        "{" * 1000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_broken_or_no_object_is_not_found(text):
    assert list(objects(text)) == []


def test_all_objects_are_found_in_order():
    found = [value for _, value in objects('Not {"a": 1} but {"a": 2}.')]
    assert found == [{"a": 1}, {"a": 2}]


@given(st.dictionaries(st.text(max_size=4), values, max_size=3))
def test_an_object_alone_is_itself(value):
    assert first(orjson.dumps(value).decode()) == value


@given(st.text(max_size=60))
def test_nothing_breaks_it(text):
    for written, value in objects(text):
        assert orjson.loads(written) == value
