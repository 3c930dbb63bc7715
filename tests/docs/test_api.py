"""docs/api.md has every REST path, code, reason and event that there is, and no other."""

import re

from astromesh.agents.v1 import run_event_pb2, run_pb2
from astromesh.common.v1 import error_reason_pb2

from servers.kernel.details import CODES
from tests.docs.tour import ROOT

TEXT = (ROOT / "docs" / "api.md").read_text()
RUNS = (ROOT / "docs" / "runs.md").read_text()
ROUTE = re.compile(r"^\| `(/v1/\S+)` \| (\w+) \| `(\S+)` \|$", re.MULTILINE)
REASON = re.compile(r"`([A-Z][A-Z_]+[A-Z])`")
CODE = re.compile(r"^\| ([A-Z_]+) \| (\d+) \| (\d+) \| .* \| (.*) \|$", re.MULTILINE)


def known_reasons():
    names = error_reason_pb2.ErrorReason.keys()
    return {name.removeprefix("ERROR_REASON_") for name in names}


def names_of(enum):
    """Without the prefix that all of them have, and without UNSPECIFIED."""
    names = {value.name for value in enum.DESCRIPTOR.values}
    (prefix,) = [name.removesuffix("UNSPECIFIED") for name in names if "_UNSPECIFIED" in name]
    return {name.removeprefix(prefix) for name in names} - {"UNSPECIFIED"}


def test_it_has_exactly_the_paths_that_are_served():
    golden = (ROOT / "tests" / "golden" / "routes.txt").read_text()
    served = {tuple(line.split()) for line in golden.splitlines()}
    told = {
        (path, verb, rpc if rpc.startswith("google.") else f"astromesh.{rpc}")
        for path, verb, rpc in ROUTE.findall(TEXT)
    }
    assert told == served


def test_it_has_every_code_with_its_number():
    told = {name: int(number) for name, number, _, _ in CODE.findall(TEXT)}
    assert told == {code.name: code.value[0] for code in CODES.values()}


def test_every_reason_that_it_names_exists():
    named = {reason for *_, reasons in CODE.findall(TEXT) for reason in REASON.findall(reasons)}
    assert named - known_reasons() == set()


def test_it_leads_to_the_list_of_all_reasons():
    (link,) = re.findall(r"\]\((\S+error_reason\.proto)\)", TEXT)
    assert (ROOT / "docs" / link).is_file()


def test_it_names_every_event():
    payloads = [field.name for field in run_event_pb2.RunEvent.DESCRIPTOR.oneofs[0].fields]
    assert [name for name in payloads if f"`{name}`" not in TEXT] == []
    assert [name for name in payloads if f"| `{name}` |" not in RUNS] == []


def test_runs_have_their_states_and_reasons_to_stop():
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", RUNS, re.MULTILINE))
    assert told == names_of(run_pb2.RunState) | names_of(run_pb2.StopReason)
