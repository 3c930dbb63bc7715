"""Rows of the tables of conversations as values. SQLite and PostgreSQL have the same columns."""

from collections.abc import Iterable
from typing import Any, Final

from servers.domain.memory import Recorded, SessionInfo, SessionKey, Turn
from servers.kernel.stored_json import loads, message_from

TURN_COLUMNS: Final = "idx, message, created_at, run_id, principal, tokens, counted_by"
OF_T: Final = ", ".join(f"t.{column}" for column in TURN_COLUMNS.split(", "))


def turn_from(row: Iterable[Any]) -> Turn:
    index, body, at, run_id, principal, tokens, by = row
    return Turn(index, message_from(loads(body)), at, run_id, principal, tokens, by)


def recorded_from(row: Iterable[Any]) -> Recorded:
    tenant, agent, session, *turn = row
    return Recorded(SessionKey(tenant, agent, session), turn_from(turn))


def session_from(row: Iterable[Any]) -> SessionInfo:
    tenant, agent, session, turns, created, updated, expires, summary = row
    key = SessionKey(tenant, agent, session)
    return SessionInfo(key, turns, created, updated, expires, summary)
