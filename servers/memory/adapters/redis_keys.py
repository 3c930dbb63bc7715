"""The keys of conversations in Redis, and what is in them. Needs no client.

{PREFIX:TENANT}:AGENT:SESSION:meta   hash: next, created, updated, ttl, ends, etag, ...
{PREFIX:TENANT}:AGENT:SESSION:turns  sorted set by index: "INDEX:JSON"
{PREFIX:TENANT}:AGENT:SESSION:marks  set: the runs that have written
{PREFIX:TENANT}:sessions:AGENT           sorted set of names
{PREFIX:TENANT}:principals:PRINCIPAL     sorted set of places: agent, NUL, session
{PREFIX:TENANT}:expiring                 sorted set of places, by when they end
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from servers.domain.chat import Message
from servers.domain.memory import SessionInfo, SessionKey, Turn
from servers.kernel.stored_json import dumps, loads_joined, message_from
from servers.memory.ports import StoredTurn

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*")  # what quoting leaves as it is, and quicker


class Keys:
    """Of one session."""

    def __init__(self, prefix: str, key: SessionKey) -> None:
        self.tenant = tenant_tag(prefix, key.tenant)
        agent = _plain(key.agent)
        base = f"{self.tenant}:session:{agent}:{_plain(key.session)}"
        self.meta, self.turns, self.marks = f"{base}:meta", f"{base}:turns", f"{base}:marks"
        self.people = f"{base}:people"
        self.sessions = f"{self.tenant}:sessions:{agent}"
        self.expiring = f"{self.tenant}:expiring"
        self.place = f"{key.agent}\0{key.session}"

    @property
    def all(self) -> list[str]:
        """In the order in which the scripts expect them."""
        return [self.meta, self.turns, self.marks, self.people, self.sessions, self.expiring]

    def principals(self, principal: str) -> str:
        return places_of(self.tenant, principal)


def tenant_tag(prefix: str, tenant: str) -> str:
    return f"{{{prefix}:{_plain(tenant)}}}"


def sessions_of(tag: str, agent: str) -> str:
    return f"{tag}:sessions:{_plain(agent)}"


def places_of(tag: str, principal: str) -> str:
    return f"{tag}:principals:{_plain(principal)}"


def _plain(name: str) -> str:
    """Without colons and braces: no name can be taken for more than one part of a key."""
    return name if _PLAIN.fullmatch(name) else quote(name, safe="")


def body_of(
    message: str, run_id: str, principal: str, at: float, tokens: int, counted_by: str
) -> str:
    return dumps([run_id, principal, at, tokens, counted_by, message]).decode()


def index_of(member: bytes) -> int:
    return int(member.partition(b":")[0])


def stored(members: Sequence[bytes]) -> list[StoredTurn]:
    parts = [member.partition(b":") for member in members]
    bodies = loads_joined(b",".join([body for _, _, body in parts]))
    return [
        StoredTurn(int(index), message.encode(), at, run_id, principal, tokens, by)
        for (index, _, _), (run_id, principal, at, tokens, by, message) in zip(
            parts, bodies, strict=True
        )
    ]


def turns_of(members: Sequence[bytes]) -> list[Turn]:
    return [each.turn() for each in stored(members)]


def messages_of(members: Sequence[bytes]) -> tuple[Message, ...]:
    """The newest member first, the oldest message first."""
    bodies = loads_joined(b",".join([member[member.index(b":") + 1 :] for member in members]))
    joined = ",".join([body[-1] for body in reversed(bodies)])
    return tuple(map(message_from, loads_joined(joined.encode())))


def recounted(member: bytes, tokens: int, by: str) -> str:
    (turn,) = stored([member])
    said = turn.run_id, turn.principal, turn.created_at
    return f"{turn.idx}:{body_of(turn.body.decode(), *said, tokens, by)}"


def key_of(tenant: str, place: bytes) -> SessionKey:
    agent, _, session = place.decode().partition("\0")
    return SessionKey(tenant, agent, session)


def info_of(key: SessionKey, meta: Sequence[bytes | None], turns: int) -> SessionInfo:
    created, updated, ends, summary = meta
    times = float(created or 0), float(updated or 0), float(ends) if ends else None
    return SessionInfo(key, turns, *times, (summary or b"").decode())
