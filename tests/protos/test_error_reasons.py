"""The enum of reasons says what servers/ and Envoy answer: each of them, and nothing else."""

import ast
import re

import grpc
import pytest
from astromesh.common.v1 import error_reason_pb2

from servers.kernel import errors
from servers.kernel.details import CODES

PREFIX = "ERROR_REASON_"
UPPER_SNAKE = re.compile("[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
# These calls have a `reason`, too, but raise nothing.
NOT_ERRORS = {"Noticed", "StateChanged"}


@pytest.fixture(scope="module")
def raised(root):
    """reason -> the files that raise it."""
    found = {}
    for path in sorted((root / "servers").rglob("*.py")):
        if path.samefile(errors.__file__):
            continue  # Its base class is never raised; the others are read below.
        for reason in reasons_in(ast.parse(path.read_text())):
            found.setdefault(reason, set()).add(str(path.relative_to(root)))
    edge = root / "envoy/envoy.yaml.j2"
    for reason in refusals_in(edge.read_text()):
        found.setdefault(reason, set()).add(str(edge.relative_to(root)))
    for kind in CODES:
        found.setdefault(kind.reason, set()).add(errors.__name__)
    return found


@pytest.fixture(scope="module")
def listed():
    names = [
        name.removeprefix(PREFIX) for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    ]
    return set(names) - {"UNSPECIFIED"}


def test_every_reason_is_listed(raised, listed):
    assert {reason: files for reason, files in raised.items() if reason not in listed} == {}


def test_every_listed_reason_is_raised(raised, listed):
    assert listed - set(raised) == set()


def test_every_listed_reason_names_a_code_and_its_metadata(descriptors):
    (file,) = (f for f in descriptors.file if f.name.endswith("/error_reason.proto"))
    codes = "|".join(code.name for code in grpc.StatusCode)
    told = re.compile(rf"^ ({codes})\. Metadata: \{{", re.MULTILINE)
    comments = {
        file.enum_type[0].value[location.path[3]].name: location.leading_comments
        for location in file.source_code_info.location
        if len(location.path) == 4
    }
    del comments[PREFIX + "UNSPECIFIED"]
    assert [name for name, comment in comments.items() if not told.search(comment)] == []


def reasons_in(tree):
    """The texts that are given as `reason=`, or that such a name or parameter stands for."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=function, keywords=keywords):
                if ast.unparse(function).rpartition(".")[2] not in NOT_ERRORS:
                    values = [keyword.value for keyword in keywords if keyword.arg == "reason"]
                    yield from texts(*values)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if name.lower() == "reason":
                    yield from texts(value)


def refusals_in(template):
    """What follows a code in `refusal(code, "REASON", ...)` and in the list of refusals."""
    return re.findall(r'\b\d+, "([A-Z_]+)",', template)


def texts(*values):
    for value in values:
        match value:
            case ast.Constant(value=str(text)) if UPPER_SNAKE.fullmatch(text):
                yield text
            case ast.IfExp(body=one, orelse=other):
                yield from texts(one, other)


def test_a_reason_is_found_wherever_it_is_written():
    code = """
raise NotFound("x", reason="KEYWORD")
REASON = "CONSTANT"
reason = "ONE" if busy else "OTHER"
class Full(Exhausted):
    reason = "OF_CLASS"
journal.emit(Noticed(reason="NOTICE"))
"""
    assert sorted(reasons_in(ast.parse(code))) == [
        "CONSTANT",
        "KEYWORD",
        "OF_CLASS",
        "ONE",
        "OTHER",
    ]
