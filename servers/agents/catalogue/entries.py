"""One declared agent as the catalogue keeps it, and what can be said of it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import orjson

from servers.agents.catalogue.files import Declared
from servers.agents.manifest import Agent
from servers.agents.ports import StoredAgent
from servers.domain.agents import AgentRecord
from servers.domain.chat import Json
from servers.kernel.errors import Conflict, InvalidInput, Violation
from servers.kernel.manifest import API_VERSION
from servers.kernel.yaml_text import REASON


@dataclass(frozen=True, slots=True)
class Entry:
    """A declared agent, wherever it comes from."""

    name: str
    source: str
    agent: Agent | None
    reason: str = ""  # why there is no agent, or why a newer one was not taken over
    revision: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def etag(self) -> str:
        tree = self.agent.canonical() if self.agent else {"reason": self.reason}
        body = orjson.dumps([self.revision, tree], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(body).hexdigest()[:20]


def from_files(
    old: Mapping[str, Entry], declared: Sequence[Declared], now: float
) -> dict[str, Entry]:
    """The agents of the files, by name, where `old` were those of before. One whose file
    became faulty goes on as it was."""
    found = {each.name: _from_file(old, each, now) for each in declared if each.agent}
    for each in (each for each in declared if not each.agent):
        kept = [entry for entry in old.values() if _continues(entry, each)]
        for entry in kept:
            found.setdefault(entry.name, replace(entry, reason=each.reason))
        if not kept:
            found.setdefault(each.name, _from_file(old, each, now))
    return dict(sorted(found.items()))


def _from_file(known: Mapping[str, Entry], declared: Declared, now: float) -> Entry:
    old, source = known.get(declared.name), f"file:{declared.origin}"
    if old and old.agent == declared.agent and old.source == source:
        return replace(old, reason=declared.reason)  # the same object: what is built on it stays
    created = old.created_at if old else now
    return Entry(declared.name, source, declared.agent, declared.reason, 0, created, now)


def _continues(old: Entry, faulty: Declared) -> bool:
    """Whether the running agent is what the faulty document was before."""
    if old.agent is None:
        return False
    file_name = faulty.origin.partition(".")[0]
    same_file = old.source == f"file:{faulty.origin}" and faulty.name == file_name
    return faulty.name == old.name or same_file


def stored_entry(stored: StoredAgent, agent: Agent | None, reason: str = "") -> Entry:
    return Entry(
        stored.name, "api", agent, reason, stored.revision, stored.created_at, stored.updated_at
    )


def compare_etag(entry: Entry, etag: str) -> None:
    if etag and etag != entry.etag:
        raise Conflict(
            f"agent {entry.name!r} has changed since you read it; read it again, then retry",
            reason="ETAG_MISMATCH",
            agent=entry.name,
        )


def name_in(manifest: Json) -> str:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput(
            "metadata.name is missing",
            reason=REASON,
            violations=(Violation("metadata.name", "is missing"),),
        )
    return name


def record_of(entry: Entry, problem: str = "") -> AgentRecord:
    """`problem` is what keeps an agent that is sound in itself from running."""
    agent = entry.agent
    return AgentRecord(
        name=entry.name,
        version=agent.metadata.version if agent else "",
        manifest=agent.public() if agent else _bare(entry.name),
        etag=entry.etag,
        ready=agent is not None and not problem,
        reason=problem or entry.reason,
        source=entry.source,
        created_at=entry.created_at,
        updated_at=entry.updated_at,
    )


def _bare(name: str) -> Json:
    """What can be shown of an agent that could not be read."""
    return {"api_version": API_VERSION, "kind": "Agent", "metadata": {"name": name}}


def nearest_names(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3)
    return f"; did you mean {', '.join(repr(each) for each in close)}?" if close else ""
