"""Readers take any bytes: they give text, or say what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel.errors import InvalidInput
from servers.rag.adapters import readers
from tests.mesh.test_rag import PDF

KINDS = sorted(set(readers.ENDINGS.values()))
BEGINNINGS = (b"", b"%PDF-1.7\n", b"PK\x03\x04", b"\xff\xfe", b"{", b"<p>", b"a,b\n", b"[[")
REASONS = {"DOCUMENT_UNREADABLE", "DOCUMENT_TOO_LARGE"}


@pytest.mark.parametrize("kind", KINDS)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(kind, beginning, rest):
    assert read_or_refused(beginning + rest, kind)


@given(st.integers(0, len(PDF)), st.integers(0, len(PDF)), st.binary(max_size=30))
def test_a_pdf_with_any_damage_is_read_or_refused(start, end, instead):
    assert read_or_refused(PDF[:start] + instead + PDF[end:], readers.PDF)


@pytest.mark.parametrize("depth", [150, 1000])
def test_json_of_any_depth_is_read_or_refused(depth):
    assert read_or_refused(b"[" * depth + b"1" + b"]" * depth, readers.JSON)


def read_or_refused(content: bytes, kind: str) -> bool:
    try:
        contents = readers.read(content, kind)
    except InvalidInput as error:
        return error.reason in REASONS
    # What was read can be stored and sent.
    return "\0" not in contents.text and contents.text.encode() is not None
