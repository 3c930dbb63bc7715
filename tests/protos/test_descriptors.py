"""What Envoy, reflection and documentation find in the descriptor set."""

import pytest


@pytest.mark.parametrize(
    "detail",
    ["ErrorInfo", "RetryInfo", "BadRequest", "QuotaFailure", "PreconditionFailure", "Status"],
)
def test_the_details_of_errors_can_be_shown(pool, detail):
    """Envoy answers with an empty body where it does not know a detail's type."""
    assert pool.FindMessageTypeByName(f"google.rpc.{detail}")


def test_the_comments_are_in_it(descriptors):
    ours = [file for file in descriptors.file if file.package.startswith("astromesh.")]
    assert all(file.source_code_info.location for file in ours)


def test_it_stands_alone(descriptors):
    names = {file.name for file in descriptors.file}
    assert {needed for file in descriptors.file for needed in file.dependency} <= names
