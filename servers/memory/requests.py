"""What of a request about memories can't be done, said before anything is."""

from typing import Final

from servers.domain.rag import Metadata
from servers.domain.semantic import Forgetting, MemoryQuery, MemoryScope, Reader, Remembered
from servers.kernel.vectors.ports import check_value, check_where
from servers.memory.names import check_name, check_principal, wrong

LONGEST_TEXT: Final = 8_000  # characters
LONGEST_QUERY: Final = 32_768
MOST_FOUND: Final = 100
USUALLY_FOUND: Final = 5
LONGEST_TTL: Final = 100 * 365 * 86_400.0  # seconds
_MOST_KEYS, _LONGEST_VALUE = 32, 1_000


def check_reader(reader: Reader) -> None:
    check_name("tenant", reader.tenant)
    check_name("agent", reader.agent)
    check_principal(reader.principal)
    if reader.session:
        check_name("session", reader.session)


def check_remembered(reader: Reader, remembered: Remembered) -> None:
    """Raises InvalidInput that names the field."""
    check_reader(reader)
    _check_text("text", remembered.text, LONGEST_TEXT)
    _check_metadata(remembered.metadata)
    if remembered.kind:
        check_name("kind", remembered.kind)
    if remembered.run_id:
        check_name("run_id", remembered.run_id)
    if remembered.scope is MemoryScope.SESSION and not reader.session:
        raise wrong("session", "a memory of a session needs to know which")
    threshold = remembered.duplicate_threshold
    if threshold is not None and not 0 < threshold <= 1:
        raise wrong("duplicate_threshold", f"{threshold} is not more than 0 and at most 1")
    if remembered.ttl is not None and not 0 <= remembered.ttl <= LONGEST_TTL:
        raise wrong("ttl_seconds", f"expected 0 to {LONGEST_TTL:.0f}")


def check_query(reader: Reader, query: MemoryQuery) -> None:
    check_reader(reader)
    _check_text("query", query.text, LONGEST_QUERY)
    check_selection(query)


def check_selection(query: MemoryQuery, here: str = "") -> None:
    """What is said besides the text. `here`: what stands before the names of its fields."""
    if query.top_k is not None and not 1 <= query.top_k <= MOST_FOUND:
        raise wrong(f"{here}top_k", f"{query.top_k} is not from 1 to {MOST_FOUND}")
    threshold = query.similarity_threshold
    if threshold is not None and not -1 <= threshold <= 1:
        raise wrong(f"{here}similarity_threshold", f"{threshold} is not from -1 to 1")
    check_where(query.where, f"{here}filter")


def check_forgetting(reader: Reader, which: Forgetting) -> None:
    check_reader(reader)
    said = [name for name in ("id", "session", "where", "all") if getattr(which, name)]
    if len(said) != 1:
        raise wrong("id", "say exactly one of id, session, filter and all")
    if which.session:
        check_name("session", which.session)
    if which.id:
        check_name("id", which.id)
    check_where(which.where)


def _check_text(field: str, text: str, longest: int) -> None:
    if not text.strip():
        raise wrong(field, "it is empty")
    if len(text) > longest:
        raise wrong(field, f"{len(text)} characters are too many: {longest} at most")
    if "\0" in text:
        raise wrong(field, "it holds NUL")
    if not _is_unicode(text):
        raise wrong(field, "it is no valid Unicode")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_metadata(metadata: Metadata) -> None:
    if len(metadata) > _MOST_KEYS:
        raise wrong("metadata", f"more than {_MOST_KEYS} keys")
    for key, value in metadata.items():
        check_name(f"metadata.{key}"[:100], key)
        if not isinstance(value, str | int | float | bool):
            raise wrong(f"metadata.{key}", "expected a text, a number, true or false")
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            raise wrong(f"metadata.{key}", f"more than {_LONGEST_VALUE} characters")
        check_value(f"metadata.{key}", value)
