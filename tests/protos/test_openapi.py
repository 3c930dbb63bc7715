"""The OpenAPI document of the REST face."""

import re

import pytest
import yaml
from astromesh.agents.v1 import run_event_pb2, run_pb2
from astromesh.common.v1 import chat_pb2
from google.api import annotations_pb2
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate


@pytest.fixture(scope="module")
def document(root):
    return yaml.safe_load((root / "gen/openapi/astromesh.openapi.yaml").read_text())


@pytest.fixture(scope="module")
def faults(document):
    """The faults of a JSON value, held against the schema of that name."""

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        return [fault.message for fault in Draft202012Validator(schema).iter_errors(value)]

    return check


def operation(document, verb, path):
    return document["paths"][path][verb]


def body_of(operation):
    return operation["requestBody"]["content"]["application/json"]["schema"]


def test_it_is_valid_openapi(document):
    validate(document)


def test_every_path_of_the_contract_is_in_it(document, services):
    bound = {
        (rule.WhichOneof("pattern"), plain(getattr(rule, rule.WhichOneof("pattern"))))
        for service in services
        for method in service.methods
        if method.GetOptions().HasExtension(annotations_pb2.http)
        for main in [method.GetOptions().Extensions[annotations_pb2.http]]
        for rule in [main, *main.additional_bindings]
    }
    documented = {(verb, path) for path, item in document["paths"].items() for verb in item}
    assert documented == bound


def test_what_is_in_the_path_is_not_in_the_body(document):
    run = operation(document, "post", "/v1/agents/{agent}:run")
    assert [parameter["name"] for parameter in run["parameters"]] == ["agent"]
    assert "agent" not in body_of(run)["properties"]


def test_what_is_neither_in_the_path_nor_the_body_is_a_query_parameter(document):
    update = operation(document, "patch", "/v1/agents/{agent.metadata.name}")
    assert [(parameter["in"], parameter["name"]) for parameter in update["parameters"]] == [
        ("path", "agent.metadata.name"),
        ("query", "update_mask"),
        ("query", "allow_missing"),
        ("query", "validate_only"),
    ]


def test_a_body_that_is_one_field_is_that_field(document):
    create = operation(document, "post", "/v1/agents")
    assert body_of(create) == {"$ref": "#/components/schemas/agents.v1.Agent"}


def test_a_stream_has_two_spellings(document):
    stream = operation(document, "post", "/v1/agents/{agent}:stream")
    assert set(stream["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}


def test_an_error_of_any_operation_is_a_status(document):
    answers = [
        op["responses"]["default"] for item in document["paths"].values() for op in item.values()
    ]
    assert {answer["$ref"] for answer in answers} == {"#/components/responses/Error"}


def test_every_part_is_explained(document):
    schemas = document["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
    assert [
        (name, field)
        for name, schema in schemas.items()
        for field, part in schema.get("properties", {}).items()
        if not part.get("description")
    ] == []


def test_an_event_as_the_edge_prints_it_fits_its_schema(faults):
    event = run_event_pb2.RunEvent(
        run_id="r", sequence=3, text_delta=run_event_pb2.TextDelta(text="hi")
    )
    event.time.GetCurrentTime()
    assert faults("agents.v1.RunEvent", printed(event)) == []


def test_a_run_as_the_edge_prints_it_fits_its_schema(faults):
    run = run_pb2.Run(run_id="r", state=run_pb2.RUN_STATE_FAILED)
    run.error.code = 14
    run.context["locale"] = {"language": "de"}
    assert faults("agents.v1.Run", printed(run)) == []


def test_a_message_does_not_fit_with_two_of_a_choice(faults):
    part = printed(chat_pb2.Part(text="look"))
    assert faults("common.v1.Part", part) == []
    assert faults("common.v1.Part", part | {"image": {"url": "https://example.com/cat.png"}})


def test_a_64_bit_number_is_text(faults):
    assert faults("common.v1.Sampling", printed(chat_pb2.Sampling(seed=2**60))) == []
    assert faults("common.v1.Sampling", {"seed": 2**60})


def plain(path):
    """Patterns written out as OpenAPI has them."""
    path = path.replace("{name=operations}", "operations")
    return re.sub(r"{name=operations/\*+}", "operations/{name}", path).replace("=**", "")


def printed(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
