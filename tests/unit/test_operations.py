"""Ingestions as google.longrunning.Operation, and back."""

from dataclasses import replace

import pytest

from servers.domain.caller import Caller
from servers.domain.ingestions import DocumentFailure, Ingestion, IngestionState
from servers.rag.convert_operations import operation_from, operation_to

ME = Caller("acme", "alice")
LARGEST = 4 << 20  # bytes of a message, where nobody says more
FAILURE = DocumentFailure("a.txt", "DOCUMENT_EMPTY", "it holds no text")
RUNNING = Ingestion("i1", "acme", "alice", "handbook", 1.0, 2.0, documents=9, failed=1)


def ended(state: IngestionState, *failures: DocumentFailure) -> Ingestion:
    over = {} if state is IngestionState.RUNNING else {"ended_at": 3.0}
    return replace(RUNNING, state=state, failed=len(failures), failures=failures, **over)


@pytest.mark.parametrize("state", IngestionState)
def test_what_failed_is_named_however_it_ends(state):
    ingestion = ended(state, FAILURE, replace(FAILURE, id="b.txt"))
    assert operation_from(operation_to(ingestion), ME) == ingestion


@pytest.mark.parametrize("state", IngestionState)
def test_a_thousand_failures_fit_into_a_message(state):
    worst = DocumentFailure("\U0001f600" * 512, "DOCUMENT_UNREADABLE", "\U0001f600" * 300)
    operation = operation_to(ended(state, *[worst] * 1000))
    assert operation.ByteSize() < LARGEST
    kept = 1000 if state is IngestionState.DONE else 100
    assert len(operation_from(operation, ME).failures) == kept
    assert operation_from(operation, ME).failed == 1000
