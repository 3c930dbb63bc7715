"""Which version of a record is shown, where a database has no transactions.

A new version is written before the older one is deleted, and a torn write leaves both. So what
was found is compared with the newest versions that there are. Those are read a moment later, and
a record that is replaced just then would be missing: what was found is not the newest any more,
and the newest was not found. It is looked for again, and what was the newest once during a call
may be shown.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from servers.kernel.vectors.payloads import Head, found_from, newest
from servers.kernel.vectors.ports import Found, Record

_LOOKS: Final = 5  # at a record that is replaced all the time

Scored: TypeAlias = tuple[Mapping[str, Any], float]  # a payload, and how near it is
HeadsOf: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[Head]]]


async def whole(
    look: Callable[[], Awaitable[tuple[Sequence[Scored], bool]]], heads_of: HeadsOf
) -> list[Found]:
    """What was found, without what a torn write left behind. `look` tells, too, whether all was
    still there; `heads_of`: of all versions of some records, whoever may see them."""
    known = _Versions()
    said: Sequence[Scored] = ()
    shown: Mapping[str, str] = {}
    for _ in range(_LOOKS):
        said, all_there = await look()
        ids = sorted({payload["record"] for payload, _ in said})
        news = known.learn(await heads_of(ids) if ids else ())
        shown = known.among((payload["record"], payload["version"]) for payload, _ in said)
        if all_there and (len(shown) == len(ids) or not news):
            break
    return [
        found_from(payload, similarity)
        for payload, similarity in said
        if shown.get(payload["record"]) == payload["version"]
    ]


async def current(seen: Sequence[Head], look: HeadsOf, heads_of: HeadsOf) -> list[Record]:
    """The same of records, in order. `look`: heads of some records that may be seen."""
    ids = [record.id for record, _ in seen]
    known = _Versions()
    shown: Mapping[str, str] = {}
    for again in range(_LOOKS):
        seen = await look(ids) if again else seen
        news = known.learn(await heads_of(ids))
        shown = known.among((record.id, version) for record, version in seen)
        if len(shown) == len(ids) or not news:
            break
    found = [record for record, version in seen if shown.get(record.id) == version]
    return sorted(found, key=lambda record: record.id)


class _Versions:
    """That were the newest ones during a call, by record; in that order."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def learn(self, heads: Iterable[Head]) -> bool:
        """Returns whether any is new."""
        news = False
        for name, (_, version) in newest(heads).items():
            known = self._of.setdefault(name, [])
            if version not in known:
                known.append(version)
                news = True
        return news

    def among(self, found: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Of each record the newest one that was found."""
        there = set(found)
        return {
            name: version
            for name, versions in self._of.items()
            for version in versions
            if (name, version) in there
        }
