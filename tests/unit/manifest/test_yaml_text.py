"""YAML of strangers: what comes out, and what is refused before it costs anything."""

import pytest

from servers.kernel.errors import InvalidInput
from servers.kernel.yaml_text import read_yaml


def value(text):
    (document,) = read_yaml(text, "x.yaml")
    return document.value


def refusal(text) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_yaml(text, "x.yaml")
    assert caught.value.reason == "MANIFEST_INVALID"
    return caught.value


class TestWhatComesOut:
    @pytest.mark.parametrize("text", ["no", "off", "2026-01-01", "12:30", "1_000"])
    def test_what_yaml_1_1_would_convert_stays_text(self, text):
        assert value(f"a: {text}") == {"a": text}

    def test_numbers_booleans_and_null_are_read_as_in_yaml_1_2(self):
        read = value("[1, -2, 0x10, 1.5, 1e3, true, null, ~, '1']")
        assert read == [1, -2, 16, 1.5, 1000.0, True, None, None, "1"]

    def test_several_documents_are_read_and_empty_ones_left_out(self):
        assert [d.value for d in read_yaml("a: 1\n---\n---\nb: 2\n", "x")] == [{"a": 1}, {"b": 2}]

    def test_own_keys_win_over_merged_ones(self):
        text = "base: &b {x: 1, y: 2}\nsum: {<<: *b, y: 3}"
        assert value(text)["sum"] == {"x": 1, "y": 3}

    def test_a_place_in_the_value_has_its_line(self):
        (document,) = read_yaml("a:\n  b:\n  - c: 1\n  - d: 2\n", "x.yaml")
        assert document.line(("a", "b", 1, "d")) == 4

    def test_a_place_that_does_not_exist_has_its_parents_line(self):
        (document,) = read_yaml("x: 1\na:\n  b: 1\n", "x.yaml")
        assert document.line(("a", "zz")) == 2


class TestWhatIsRefused:
    def test_a_syntax_error_names_file_line_and_column(self):
        assert refusal("a: [1\nb: 2").message.startswith("x.yaml:2:2: not valid YAML: ")

    def test_a_key_written_twice_is_named_with_its_place(self):
        wrong = refusal("a: 1\nb: 2\na: 3").message
        assert wrong == "x.yaml:3:1: not valid YAML: the key 'a' is written twice"

    def test_an_alias_bomb_is_refused_before_it_expands(self):
        lines = ["a: &a [" + ",".join("x" * 10) + "]"]
        for now, before in zip("bcdefghi", "abcdefgh", strict=True):
            lines.append(f"{now}: &{now} [" + ",".join([f"*{before}"] * 10) + "]")
        assert "aliases expand to more than 100000 values" in refusal("\n".join(lines)).message

    def test_an_alias_that_contains_itself_is_refused(self):
        assert "an alias contains itself" in refusal("a: &a [*a]").message

    def test_deep_nesting_is_refused(self):
        assert "nested deeper than 64 levels" in refusal("[" * 500_000).message

    def test_too_many_values_are_refused(self):
        assert "more than 50000 values" in refusal("- a\n" * 60_000).message

    def test_ten_megabytes_are_refused(self):
        assert refusal("a" * 10_000_000).message == "x.yaml: larger than 1024 KiB"

    @pytest.mark.parametrize(
        "text", ["!!python/object/apply:os.system [ls]", "!!binary aGk=", "!mine 1"]
    )
    def test_tags_are_refused(self, text):
        assert "is not allowed" in refusal(f"a: {text}").message

    @pytest.mark.parametrize("text", [b"\xff\xfe", "a: \x00", "? [1]\n: 2", "a: *nobody"])
    def test_nonsense_is_one_line_that_names_the_file(self, text):
        message = refusal(text).message
        assert message.startswith("x.yaml")
        assert "\n" not in message

    @pytest.mark.parametrize("text", ["9" * 5000, "1e999"])
    def test_numbers_without_measure_are_refused(self, text):
        assert "is not a valid" in refusal(f"a: {text}").message
