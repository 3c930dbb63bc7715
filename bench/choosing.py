"""Which parts of a benchmark are wanted. What names none of them is refused."""

from collections.abc import Iterable, Sequence


def chosen(said: str, between: str, known: Iterable[str]) -> frozenset[str]:
    """The names in a text, all of which must be known. None: all are wanted."""
    names, there = frozenset(filter(None, said.split(between))), list(known)
    if unknown := sorted(names - {*there}):
        raise _refused(unknown[0], there)
    return names


def with_part(said: str, known: Sequence[str]) -> list[str]:
    """The known names that have the text in them; there must be one."""
    if found := [name for name in known if said in name]:
        return found
    raise _refused(said, known)


def _refused(said: str, known: Sequence[str]) -> SystemExit:
    there = ", ".join(map(repr, known))
    return SystemExit(f"--only {said!r}: there is no such thing here; there are: {there}")
