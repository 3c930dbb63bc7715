"""The REST paths of the contract."""

import re
from collections import Counter

import pytest
from google.api import annotations_pb2

# Streams of requests are nothing that plain HTTP can give; waiting is Google's own, without a path.
GRPC_ONLY = {
    "astromesh.agents.v1.AgentService.Chat",
    "astromesh.rag.v1.RagService.IngestDocuments",
    "astromesh.rag.v1.RagService.UploadIngestion",
    "google.longrunning.Operations.WaitOperation",
}


@pytest.fixture(scope="module")
def methods(services):
    return [method for service in services for method in service.methods]


@pytest.fixture(scope="module")
def routes(methods):
    """(verb, path, full name of the RPC) of every binding."""
    return [
        (rule.WhichOneof("pattern").upper(), getattr(rule, rule.WhichOneof("pattern")), method)
        for method in methods
        if method.GetOptions().HasExtension(annotations_pb2.http)
        for main in [method.GetOptions().Extensions[annotations_pb2.http]]
        for rule in [main, *main.additional_bindings]
    ]


def test_every_rpc_has_a_path_but_the_conversation(methods, routes):
    bound = {method.full_name for _, _, method in routes}
    assert {method.full_name for method in methods} - bound == GRPC_ONLY


def test_no_two_rpcs_claim_the_same_path(routes):
    shapes = Counter((verb, re.sub("{[^=}]*}", "*", path)) for verb, path, _ in routes)
    assert [shape for shape, times in shapes.items() if times > 1] == []


def test_the_paths_are_those_that_callers_know(routes, golden):
    lines = sorted(f"{path:55} {verb:6} {method.full_name}" for verb, path, method in routes)
    golden("routes.txt", "\n".join(lines) + "\n")


def test_no_two_rpcs_share_a_request(methods):
    """buf can't check it: the rule would forbid to share a response, too (ADR 0006)."""
    requests = Counter(method.input_type.full_name for method in methods)
    assert [name for name, times in requests.items() if times > 1] == []
