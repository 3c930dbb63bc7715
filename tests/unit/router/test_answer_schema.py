"""Which schemas OpenAI's strict mode takes."""

import pytest

from servers.router.adapters.openai.answer_schema import is_strict, response_format


def closed(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a=TEXT, b={"type": "integer", "minimum": 0, "maximum": 9}),
        closed(a=closed(b=TEXT)),
        closed(a={"type": "array", "items": closed(b=TEXT), "maxItems": 3}),
        closed(a={"anyOf": [closed(b=TEXT), {"type": "null"}]}),
        closed(a={"type": ["string", "null"], "description": "may be nothing"}),
        closed(a={"enum": ["x", "y"]}, b={"const": 1}),
        closed(a={"type": "string", "format": "date-time"}),
        {**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": closed(c=TEXT)}},
    ],
    ids=str,
)
def test_strict_mode_takes(schema):
    assert is_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": TEXT},
        {"anyOf": [closed(a=TEXT)]},
        {**closed(a=TEXT), "additionalProperties": True},
        {**closed(a=TEXT), "required": []},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
        {"type": "object", "additionalProperties": False},
        closed(a={"type": "object"}),
        closed(a={"type": ["object", "null"], "properties": {"b": TEXT}}),
        closed(a={"properties": {"b": TEXT}}),
        closed(a={"allOf": [TEXT]}),
        closed(a={"oneOf": [TEXT]}),
        closed(a={"type": "string", "default": "x"}),
        closed(a={"type": "string", "minLength": 1}),
        closed(a={"type": "string", "format": "uri"}),
        closed(a={"$ref": "#/$defs/b", "description": "b"}),
        closed(a=True),
        closed(a={"type": "array", "items": {"type": "object"}}),
        {**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"type": "object"}}},
    ],
    ids=str,
)
def test_strict_mode_does_not_take(schema):
    assert not is_strict(schema)


def test_a_schema_that_is_too_deep_is_not_strict():
    schema = closed(a=TEXT)
    for _ in range(12):
        schema = closed(a=schema)
    assert not is_strict(schema)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Cat", "Cat"),
        ("Katze & Hund", "Katze_Hund"),
        ("", "answer"),
        (7, "answer"),
        ("x" * 99, "x" * 64),
    ],
)
def test_the_name_of_a_schema_comes_from_its_title(title, name):
    assert response_format({"title": title})["response_format"]["json_schema"]["name"] == name
