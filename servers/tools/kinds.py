"""Which types of tool this version can run, and which tools every mesh has."""

from servers.kernel.errors import InvalidInput

KINDS = frozenset({"internal"})  # a Python function
BUILTIN = frozenset({"calculator", "current_time", "http_get", "json_query"})
PLANNED = frozenset({"mcp", "webhook", "rag", "agent", "grpc"})


def checked_kind(kind: str) -> str:
    """`kind`, if it runs today. Raises InvalidInput that says what does."""
    if kind in KINDS:
        return kind
    what = "is not available in this version yet" if kind in PLANNED else "is unknown"
    raise InvalidInput(
        f"the tool type {kind!r} {what}; available: {', '.join(sorted(KINDS))} (a Python function)",
        reason="TOOL_KIND_UNSUPPORTED",
        kind=kind,
    )
