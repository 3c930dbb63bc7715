"""What a schema from outside must be, and what is said of values that don't fit it."""

import orjson
import pytest

from servers.kernel.json_schema import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_PATTERNS,
    JsonSchema,
    NotASchema,
    wrong_schema,
)
from servers.kernel.paths import dotted
from servers.kernel.subschemas import all_of, referred


def of(**properties) -> dict:
    return {"type": "object", "properties": properties}


def refusal(schema: dict) -> tuple[str, str]:
    with pytest.raises(NotASchema) as caught:
        JsonSchema(schema)
    return dotted(caught.value.wrong.path), caught.value.wrong.says


def nested(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


class TestASchema:
    def test_is_of_type_object(self):
        assert refusal({"type": "array"})[0] == "type"

    def test_has_a_type(self):
        assert refusal({"properties": {}})[0] == "type"

    def test_is_a_json_schema(self):
        assert refusal(of(age={"type": "integr"}))[0] == "properties.age.type"

    def test_may_be_of_an_older_draft(self):
        draft = {"$schema": "http://json-schema.org/draft-07/schema#"}
        pair = {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}
        faults = JsonSchema({**draft, **of(pair=pair)}).faults({"pair": ["a", "b"]})
        assert faults == ['$.pair[1]: "b" is not of type "integer"']

    def test_of_an_unknown_draft_is_refused(self):
        assert "meta-schema" in refusal({"$schema": "http://x.test/s", "type": "object"})[1]

    def test_is_bounded_in_bytes(self):
        assert str(MOST_BYTES) in refusal(of(a={"description": "x" * MOST_BYTES}))[1]

    def test_is_bounded_in_depth(self):
        assert str(MOST_DEPTH) in refusal(of(a={"default": nested(MOST_DEPTH)}))[1]

    def test_is_bounded_in_depth_before_anything_recurses(self):
        assert str(MOST_DEPTH) in refusal(of(a={"default": nested(100_000)}))[1]

    def test_is_bounded_in_patterns(self):
        many = {f"k{n}": {"pattern": f"^{n}$"} for n in range(MOST_PATTERNS + 1)}
        assert str(MOST_PATTERNS) in refusal(of(**many))[1]

    def test_is_json(self):
        assert refusal(of(a={"const": object()})) == ("", "is not JSON")

    @pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "(a{1,1000}){1,1000}"])
    def test_has_patterns_that_run_in_linear_time(self, pattern):
        assert refusal(of(a={"pattern": pattern}))[0] == "properties.a.pattern"

    def test_that_is_fine_is_not_wrong(self):
        assert wrong_schema(of(a={"type": "string"})) is None


class TestAReference:
    @pytest.mark.parametrize(
        "reference", ["http://127.0.0.1:1/s.json", "file:///etc/passwd", "other.json", "#name"]
    )
    def test_out_of_the_schema_is_refused(self, reference):
        place, says = refusal(of(a={"$ref": reference}))
        assert (place, reference in says) == ("properties.a.$ref", True)

    def test_from_another_base_is_refused(self):
        assert refusal(of(a={"$id": "http://x.test/", "$ref": "#/b"}))[0] == "properties.a.$id"

    def test_that_depends_on_the_way_there_is_refused(self):
        assert refusal(of(a={"$dynamicRef": "#a"}))[0] == "properties.a.$dynamicRef"

    def test_to_nowhere_is_refused(self):
        assert "$defs/no" in refusal(of(a={"$ref": "#/$defs/no"}))[1]

    def test_to_itself_is_refused_where_it_has_no_end(self):
        assert "without end" in refusal({"type": "object", "$ref": "#"})[1]

    def test_may_make_a_tree(self):
        tree = JsonSchema(of(name={"type": "string"}, inner={"$ref": "#"}))
        assert tree.faults({"inner": {"inner": {"name": "x"}}}) == []
        assert tree.faults({"inner": {"inner": {"name": 1}}}) != []

    def test_may_be_a_property_by_that_name(self):
        assert JsonSchema(of(**{"$ref": {"type": "string"}})).faults({"$ref": "http://x"}) == []


class TestAValue:
    def test_that_fits_has_no_faults(self):
        assert JsonSchema(of(age={"type": "integer"})).faults({"age": 3}) == []

    def test_is_told_its_faults_by_place(self):
        schema = JsonSchema(of(people={"items": of(age={"type": "integer"})}))
        assert schema.faults({"people": [{"age": 1}, {"age": "x"}]}) == [
            '$.people[1].age: "x" is not of type "integer"'
        ]

    def test_is_told_its_first_faults_only(self):
        schema = JsonSchema(of(all={"items": {"type": "integer"}}))
        assert len(schema.faults({"all": ["x"] * 100}, most=5)) == 5

    def test_is_told_its_faults_in_few_words(self):
        assert len(JsonSchema(of(a={"type": "integer"})).faults({"a": "x" * 10_000})[0]) <= 300

    def test_must_be_of_the_format(self):
        assert JsonSchema(of(day={"format": "date"})).faults({"day": "soon"}) != []

    def test_that_doubles_the_work_at_every_level_is_not_checked(self):
        """Else a stranger's schema and a stranger's model could stop the mesh together."""
        inner = {"required": ["a"], "properties": {"a": {"$ref": "#/$defs/n"}}}
        schema = {"type": "object", "$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [inner, inner]}}}
        assert "too large" in JsonSchema(schema).faults(nested(60))[0]

    def test_with_references_that_double_the_work_is_not_checked(self):
        doubling = {f"n{n}": {"anyOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 2} for n in range(40)}
        schema = {**of(a={"$ref": "#/$defs/n0"}), "$defs": {**doubling, "n40": {"type": "null"}}}
        assert "too large" in JsonSchema(schema).faults({"a": 1})[0]

    def test_that_is_nested_very_deeply_is_not_checked(self):
        assert JsonSchema(of(a={"$ref": "#"})).faults(nested(900)) != []

    def test_that_is_too_large_to_explain_is_not_explained(self):
        faults = JsonSchema(of(all={"items": {"type": "integer"}})).faults({"all": ["x"] * 20_000})
        assert faults == ["$: it does not fit; it is too large to say where"]

    def test_that_can_not_be_shown_has_a_fault_all_the_same(self):
        assert JsonSchema(of(a={"type": "integer"})).faults({"a": "\ud800"}) != []

    def test_of_some_thousands_of_parts_is_checked(self):
        rows = [{"id": n, "name": "x"} for n in range(5_000)]
        row = {**of(id={"type": "integer"}, name={"type": "string"}), "required": ["id"]}
        assert JsonSchema(of(rows={"items": row})).faults({"rows": rows}) == []


def test_every_schema_inside_a_schema_is_found():
    schema = orjson.loads(
        """{"properties": {"a": {"items": [{"not": {"x": 1}}]}}, "$defs": {"d": {"if": {}}},
        "allOf": [{"contains": {}}], "const": {"properties": {"no": {}}}}"""
    )
    assert {dotted(path) for path, _ in all_of(schema)} == {
        "",
        "properties.a",
        "properties.a.items[0]",
        "properties.a.items[0].not",
        "$defs.d",
        "$defs.d.if",
        "allOf[0]",
        "allOf[0].contains",
    }


@pytest.mark.parametrize(
    ("reference", "found"),
    [("#", "root"), ("#/a~1b", "slash"), ("#/c/1", "second"), ("#/c/9", None), ("#/a%20b", "gap")],
)
def test_a_reference_is_followed_as_json_pointer_has_it(reference, found):
    root = {"a/b": "slash", "c": ["first", "second"], "a b": "gap"}
    assert referred(root, reference) == (root if found == "root" else found)
