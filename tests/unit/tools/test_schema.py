"""A function's signature and docstring are all a tool needs."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import Field

from servers.domain.caller import Caller
from servers.kernel.errors import InvalidInput
from servers.tools.ports import Invocation
from servers.tools.schema import signature_of

ME = Invocation(Caller("acme"), "key-1")


class Unit(Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


@dataclass
class Place:
    city: str
    country: str = "DE"


def weather(
    city: str, days: Annotated[int, Field(ge=1, le=14)] = 3, unit: Unit = Unit.METRIC
) -> str:
    """Forecast the weather.

    Looks ahead two weeks
    at most.

    Args:
        city: where, as people
            write it
        days: how many
    """
    return f"{city} {days} {unit.value}"


def called(function, arguments: str):
    return signature_of(function).bind(arguments, ME)()


class TestTheSchema:
    def test_has_the_types_bounds_and_defaults_of_the_signature(self):
        properties = signature_of(weather).parameters["properties"]
        assert properties["city"]["type"] == "string"
        assert properties["days"] == {
            "description": "how many",
            "type": "integer",
            "minimum": 1,
            "maximum": 14,
            "default": 3,
        }

    def test_requires_what_has_no_default(self):
        assert signature_of(weather).parameters["required"] == ["city"]

    def test_takes_nothing_the_function_does_not(self):
        assert signature_of(weather).parameters["additionalProperties"] is False

    def test_describes_parameters_as_the_docstring_does(self):
        city = signature_of(weather).parameters["properties"]["city"]
        assert city["description"] == "where, as people\nwrite it"

    def test_prefers_what_the_annotation_says(self):
        def f(a: Annotated[int, Field(description="from the annotation")]):
            """Do.

            Args:
                a: from the docstring
            """

        described = signature_of(f).parameters["properties"]["a"]["description"]
        assert described == "from the annotation"

    def test_of_a_function_without_parameters_is_an_empty_object(self):
        def f() -> None: ...

        parameters = signature_of(f).parameters
        assert (parameters["type"], parameters["properties"]) == ("object", {})

    def test_knows_nested_values(self):
        def f(place: Place, tags: list[Literal["a", "b"]]): ...

        parameters = signature_of(f).parameters
        assert parameters["properties"]["place"] == {"$ref": "#/$defs/Place"}
        assert parameters["properties"]["tags"]["items"]["enum"] == ["a", "b"]

    def test_repeats_no_names_as_titles(self):
        assert "title" not in json.dumps(signature_of(weather).parameters["properties"])

    def test_is_plain_json(self):
        parameters = signature_of(weather).parameters
        assert json.loads(json.dumps(parameters)) == parameters

    def test_leaves_out_what_the_mesh_provides(self):
        def f(a: int, invocation: Invocation): ...

        assert list(signature_of(f).parameters["properties"]) == ["a"]


class TestTheDescription:
    def test_is_the_prose_of_the_docstring(self):
        assert signature_of(weather).description == (
            "Forecast the weather.\n\nLooks ahead two weeks\nat most."
        )

    def test_is_empty_without_one(self):
        assert signature_of(lambda: None).description == ""


class TestBinding:
    def test_passes_validated_values(self):
        assert called(weather, '{"city": "Ulm", "unit": "imperial"}') == "Ulm 3 imperial"

    def test_forgives_a_number_written_as_text(self):
        assert called(weather, '{"city": "Ulm", "days": "5"}') == "Ulm 5 metric"

    def test_builds_nested_values(self):
        def f(place: Place) -> str:
            return place.country

        assert called(f, '{"place": {"city": "Ulm"}}') == "DE"

    @pytest.mark.parametrize("nothing", ["", "  ", "{}"])
    def test_takes_no_text_for_no_arguments(self, nothing):
        assert called(lambda: "ran", nothing) == "ran"

    def test_hands_over_the_invocation(self):
        def f(a: int, invocation: Invocation) -> str:
            return f"{invocation.caller.tenant} {invocation.idempotency_key}"

        assert called(f, '{"a": 1}') == "acme key-1"

    def test_works_on_methods(self):
        class Counter:
            def add(self, a: int) -> int:
                return a + 1

        assert called(Counter().add, '{"a": 1}') == 2

    def test_works_on_callable_objects(self):
        class Doubles:
            def __call__(self, a: int) -> int:
                return a * 2

        assert called(Doubles(), '{"a": 4}') == 8

    def test_passes_extra_arguments_to_who_takes_them(self):
        assert called(lambda **more: more, '{"x": 1}') == {"x": 1}


class TestArgumentsThatDoNotFit:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ('{"city": ', "Invalid JSON"),
            ('["Ulm"]', "one JSON object"),
            ('"Ulm"', "one JSON object"),
            ("Ulm", "one JSON object"),
            ("{}", "city: Missing required argument"),
            ('{"city": 5}', "city: Input should be a valid string"),
            ('{"city": "Ulm", "days": 99}', "days: Input should be less than or equal to 14"),
            ('{"city": "Ulm", "dayz": 1}', "dayz: Unexpected keyword argument"),
            ('{"city": "Ulm", "unit": "x"}', "unit: Input should be 'metric' or 'imperial'"),
        ],
    )
    def test_are_explained(self, arguments, complaint):
        with pytest.raises(InvalidInput, match=complaint):
            signature_of(weather).bind(arguments, ME)

    def test_are_answered_with_the_schema(self):
        signature = signature_of(weather)
        with pytest.raises(InvalidInput) as caught:
            signature.bind("{}", ME)
        schema = caught.value.message.partition("Expected JSON Schema: ")[2]
        assert json.loads(schema) == signature.parameters

    def test_can_not_smuggle_in_an_invocation(self):
        def f(invocation: Invocation): ...

        with pytest.raises(InvalidInput, match="Unexpected keyword argument"):
            signature_of(f).bind('{"invocation": {}}', ME)


class TestAFunctionNoJsonCanCall:
    def test_is_refused_for_positional_parameters(self):
        def f(a, /): ...

        with pytest.raises(InvalidInput, match="'a' can't be given by name"):
            signature_of(f)

    def test_is_refused_for_types_json_has_not(self):
        class Socket: ...

        def f(a: Socket): ...

        with pytest.raises(InvalidInput, match="'f' can't be a tool"):
            signature_of(f)

    def test_is_refused_for_an_unknown_annotation(self):
        def f(a: "Nowhere"): ...  # noqa: F821 - that is the point

        with pytest.raises(InvalidInput, match="'Nowhere' is unknown"):
            signature_of(f)
