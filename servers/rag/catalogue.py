"""Which pipelines take the place of which, when their files are read again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from servers.rag.declared import DeclaredPipeline

Entries: TypeAlias = Mapping[str, DeclaredPipeline]  # by name
Users: TypeAlias = Mapping[str, Sequence[str]]  # pipeline -> the agents that name it
NO_USERS: Users = MappingProxyType({})


def taken_over(
    old: Entries, declared: Sequence[DeclaredPipeline], users: Users
) -> dict[str, DeclaredPipeline]:
    """The pipelines by name, where `old` were those of before.

    One whose file became faulty goes on as it was, and so does one whose file is gone as long
    as it has users; the reason says so.
    """
    found = {each.name: each for each in declared if each.pipeline}
    for each in (each for each in declared if not each.pipeline):
        kept = [entry for entry in old.values() if _continues(entry, each)]
        for entry in kept:
            found.setdefault(entry.name, replace(entry, reason=each.reason))
        if not kept:
            found.setdefault(each.name, each)
    for name, entry in old.items():
        if name not in found and entry.pipeline and users.get(name):
            found[name] = replace(entry, reason=_why_kept(entry, users[name]))
    return dict(sorted(found.items()))


def changed(old: Entries, new: Entries) -> frozenset[str]:
    """Names of those that can work and are new, or not what they were."""
    before = {name: entry.pipeline for name, entry in old.items()}
    return frozenset(n for n, each in new.items() if each.pipeline not in (None, before.get(n)))


def _continues(old: DeclaredPipeline, faulty: DeclaredPipeline) -> bool:
    """Whether the running pipeline is what the faulty document was before."""
    if old.pipeline is None:
        return False
    file_name = faulty.origin.partition(".")[0]
    same_file = old.origin == faulty.origin and faulty.name == file_name
    return faulty.name == old.name or same_file


def _why_kept(entry: DeclaredPipeline, users: Sequence[str]) -> str:
    named = ", ".join(repr(each) for each in sorted(users))
    return (
        f"{entry.origin}: the pipeline {entry.name!r} is not there any more; it goes on as long as "
        f"agents name it: {named}"
    )
