"""Rows of the tables of conversations as values. SQLite and PostgreSQL have the same columns."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from servers.domain.chat import Message
from servers.domain.memory import Recorded, SessionInfo, SessionKey, Turn
from servers.kernel.stored_json import loads_joined, message_from
from servers.memory.ports import StoredTurn, Window

TURN_COLUMNS: Final = "idx, message, created_at, run_id, principal, tokens, counted_by"
OF_T: Final = ", ".join(f"t.{column}" for column in TURN_COLUMNS.split(", "))


def turn_from(row: Iterable[Any]) -> Turn:
    return StoredTurn(*row).turn()


def window_from(rows: Sequence[Any]) -> Window:
    """Of rows that say before each turn how many the session has."""
    turns = [StoredTurn._make(turn) for _, *turn in rows]
    return Window(turns, rows[0][0] if rows else 0)


def messages_from(joined: bytes) -> tuple[Message, ...]:
    """Of bodies with commas between them, the newest first."""
    return tuple([message_from(tree) for tree in reversed(loads_joined(joined))])


def recorded_from(row: Iterable[Any]) -> Recorded:
    tenant, agent, session, *turn = row
    return Recorded(SessionKey(tenant, agent, session), turn_from(turn))


def session_from(row: Iterable[Any]) -> SessionInfo:
    tenant, agent, session, turns, created, updated, expires, summary = row
    key = SessionKey(tenant, agent, session)
    return SessionInfo(key, turns, created, updated, expires, summary)
