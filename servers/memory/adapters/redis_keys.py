"""The keys of conversations in Redis, and what is in them. Needs no client.

{PREFIX:TENANT}:AGENT:SESSION:meta   hash: next, created, updated, ttl, ends, etag, ...
{PREFIX:TENANT}:AGENT:SESSION:turns  sorted set by index: "INDEX:JSON"
{PREFIX:TENANT}:AGENT:SESSION:marks  set: the runs that have written
{PREFIX:TENANT}:sessions:AGENT           sorted set of names
{PREFIX:TENANT}:principals:PRINCIPAL     sorted set of places: agent, NUL, session
{PREFIX:TENANT}:expiring                 sorted set of places, by when they end
"""

from collections.abc import Sequence
from urllib.parse import quote

from servers.domain.memory import SessionInfo, SessionKey, Turn
from servers.kernel.stored_json import dumps, loads, message_from


class Keys:
    """Of one session."""

    def __init__(self, prefix: str, key: SessionKey) -> None:
        self.tenant = tenant_tag(prefix, key.tenant)
        base = f"{self.tenant}:session:{_plain(key.agent)}:{_plain(key.session)}"
        self.meta, self.turns, self.marks = f"{base}:meta", f"{base}:turns", f"{base}:marks"
        self.people = f"{base}:people"
        self.sessions = sessions_of(self.tenant, key.agent)
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
    return quote(name, safe="")


def body_of(
    message: str, run_id: str, principal: str, at: float, tokens: int, counted_by: str
) -> str:
    return dumps([run_id, principal, at, tokens, counted_by, message]).decode()


def index_of(member: str) -> int:
    return int(member.partition(":")[0])


def turn_of(member: str) -> Turn:
    index, _, body = member.partition(":")
    run_id, principal, at, tokens, by, message = loads(body.encode())
    said = message_from(loads(message.encode()))
    return Turn(int(index), said, at, run_id, principal, tokens, by)


def recounted(member: str, tokens: int, by: str) -> str:
    index, _, body = member.partition(":")
    run_id, principal, at, _, _, message = loads(body.encode())
    return f"{index}:{body_of(message, run_id, principal, at, tokens, by)}"


def key_of(tenant: str, place: str) -> SessionKey:
    agent, _, session = place.partition("\0")
    return SessionKey(tenant, agent, session)


def info_of(key: SessionKey, meta: Sequence[str | None], turns: int) -> SessionInfo:
    created, updated, ends, summary = meta
    times = float(created or 0), float(updated or 0), float(ends) if ends else None
    return SessionInfo(key, turns, *times, summary or "")
