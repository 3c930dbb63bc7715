"""Which names a conversation may have."""

from servers.domain.memory import SessionKey
from servers.kernel.errors import InvalidInput, Violation

LONGEST = 256


def check_key(key: SessionKey) -> None:
    check_name("tenant", key.tenant)
    check_name("agent", key.agent)
    check_name("session", key.session)


def check_name(field: str, name: str) -> None:
    """Raises InvalidInput unless `name` is 1 to 256 printable characters."""
    if not name:
        raise wrong(field, "it is empty")
    if len(name) > LONGEST:
        raise wrong(field, f"{len(name)} characters are too many: {LONGEST} at most")
    if not name.isprintable():
        raise wrong(field, f"{name!r} has characters that can't be printed")


def check_principal(principal: str) -> None:
    """Nobody in particular has no name."""
    if principal:
        check_name("principal", principal)


def wrong(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", violations=(Violation(field, why),))
