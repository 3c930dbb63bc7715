"""Which conversation something belongs to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A conversation. The same session id with another agent or tenant is another one."""

    tenant: str
    agent: str
    session: str
