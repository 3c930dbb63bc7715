"""What the built-in tools promise a model, and what they refuse it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel.errors import InvalidInput
from servers.tools.adapters.calculator import calculator
from servers.tools.adapters.clock import Clock
from servers.tools.adapters.json_query import json_query


class TestTheCalculator:
    @pytest.mark.parametrize(
        ("expression", "result"),
        [
            ("2 * (3 + 4) ** 2", "98"),
            ("0.1 + 0.2", "0.3"),
            ("7 // 2 + 7 % 2", "4"),
            ("10 / 4", "2.5"),
            ("-3 ** 2", "-9"),
            ("2 ** 100", "1267650600228229401496703205376"),
            ("2 ** -2", "0.25"),
            ("sqrt(2) * sqrt(2)", "2"),
            ("log(8, 2)", "3"),
            ("round(pi, 2)", "3.14"),
            ("round(1234, -2)", "1200"),
            ("factorial(5)", "120"),
            ("max(1, 5, 3)", "5"),
            (" 1 + 1 ", "2"),
        ],
    )
    def test_calculates(self, expression, result):
        assert calculator(expression) == result

    @pytest.mark.parametrize(
        "expression",
        [
            "9 ** 9 ** 9 ** 9",
            "pow(9, pow(9, 9))",
            "2 ** 4095 * 2 ** 4095",
            "factorial(10 ** 9)",
            "round(5, -10 ** 9)",
            "1e308 * 10",
            "10 ** 1000.5",
            "9" * 1001,
            "(" * 400 + "1" + ")" * 400,
            "-" * 999 + "1",
            "+".join(["9**9**9"] * 100),
        ],
    )
    def test_refuses_what_would_take_long_or_get_large(self, expression):
        with pytest.raises(Exception):  # noqa: B017, PT011 - the service words it, any type will do
            print(calculator(expression))

    @pytest.mark.parametrize(
        "expression",
        [
            "",
            "1 / 0",
            "(-8) ** 0.5",
            "'a' * 10",
            "[1] * 10",
            "[x for x in (1, 2)]",
            "().__class__",
            "__import__('os')",
            "open('/etc/passwd')",
            "x = 5",
            "f'{1}'",
            "sqrt.__self__",
            "lambda: 1",
            "1 if 1 else 2",
            "sqrt('4')",
            "1; 2",
        ],
    )
    def test_refuses_everything_but_arithmetic(self, expression):
        with pytest.raises(Exception):  # noqa: B017, PT011 - the service words it, any type will do
            print(calculator(expression))

    @given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
    def test_agrees_with_python(self, a, b):
        assert calculator(f"({a}) + ({b}) * ({a})") == str(a + b * a)


class TestTheClock:
    clock = Clock(lambda: datetime(2026, 7, 1, 12, 30, tzinfo=UTC))

    def test_is_in_utc_by_default(self):
        assert self.clock.current_time() == "2026-07-01T12:30:00+00:00 (Wednesday, UTC)"

    def test_knows_summer_time(self):
        assert self.clock.current_time("Europe/Berlin") == (
            "2026-07-01T14:30:00+02:00 (Wednesday, Europe/Berlin)"
        )

    def test_suggests_a_zone_for_a_misspelt_one(self):
        with pytest.raises(InvalidInput, match="Europe/Berlin"):
            self.clock.current_time("Europe/Berln")

    @pytest.mark.parametrize("zone", ["", "Europe", "../../etc/passwd", "/etc/passwd", "\0"])
    def test_refuses_what_is_no_zone(self, zone):
        with pytest.raises(InvalidInput, match="no time zone"):
            self.clock.current_time(zone)


PEOPLE = json.dumps([{"name": "Ada", "age": 36}, {"name": "Bob", "age": 17}])


class TestAJsonQuery:
    @pytest.mark.parametrize(
        ("expression", "result"),
        [
            ("[0].name", '"Ada"'),
            ("[?age > `18`].name", '["Ada"]'),
            ("length(@)", "2"),
            ("[].{n: name, a: age}[0]", '{"n":"Ada","a":36}'),
            ("join(', ', [].name)", '"Ada, Bob"'),
            ("sort_by(@, &age)[0].name", '"Bob"'),
            ("nothing", "null"),
            ("map(&age, @)", "[36,17]"),
        ],
    )
    def test_picks_values(self, expression, result):
        assert json_query(PEOPLE, expression) == result

    def test_flattens(self):
        assert json_query("[[1], [2, [3]]]", "[]") == "[1,2,[3]]"

    @pytest.mark.parametrize("expression", ["", "[", "a..b", "nope(@)", "length(`5`)"])
    def test_says_what_is_wrong_with_an_expression(self, expression):
        with pytest.raises(InvalidInput, match="the expression is not usable"):
            json_query(PEOPLE, expression)

    def test_says_what_is_wrong_with_a_document(self):
        with pytest.raises(InvalidInput, match="the document is not JSON"):
            json_query('{"a": ', "a")

    @pytest.mark.parametrize(
        "expression",
        [
            "|".join(["[@,@]"] * 80),
            "|".join(["[@,@][]"] * 60),
            "|".join(["{a:@,b:@}"] * 50),
            "[@,@]|map(&[@,@]|[@,@]|[@,@]|[@,@]|[@,@]|[@,@]|[@,@]|[@,@], @)|" + "[@,@]|" * 20 + "@",
            "|".join(["to_string([@])"] * 30),
            "length(@" + " " * 600 + ")",
        ],
        ids=["lists", "flattened lists", "objects", "mapped lists", "quotes", "long expression"],
    )
    def test_refuses_to_blow_up_its_document(self, expression):
        with pytest.raises(InvalidInput) as caught:
            json_query(json.dumps(["x", '"']), expression)
        assert caught.value.reason == "QUERY_TOO_LARGE"

    def test_refuses_to_join_with_a_huge_separator(self):
        document = json.dumps({"glue": "x" * 100_000, "list": [""] * 10_000})
        with pytest.raises(InvalidInput, match="too much"):
            json_query(document, "join(glue, list)")

    def test_refuses_a_huge_document(self):
        with pytest.raises(InvalidInput, match="too much"):
            json_query(" " * 1_000_001, "@")

    def test_takes_a_large_document(self):
        numbers = list(range(100_000))
        assert json_query(json.dumps(numbers), "length(@)") == "100000"
