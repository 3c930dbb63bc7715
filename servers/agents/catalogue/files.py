"""Agents that files declare. A file that can't be read doesn't stop the others."""

from dataclasses import dataclass
from pathlib import Path

from servers.agents.catalogue.declare import Declaring
from servers.agents.manifest import Agent
from servers.kernel.declared import Found, read_folder, without_doubles
from servers.kernel.errors import InvalidInput

SUFFIXES = (".agent.yaml", ".agent.yml")


@dataclass(frozen=True, slots=True)
class Declared:
    """What one document of a file declares: an agent, or the reason why it is none."""

    name: str  # where the file doesn't say: the file's own
    origin: str
    agent: Agent | None = None
    reason: str = ""


def read_agents(folder: Path, declaring: Declaring) -> tuple[Declared, ...]:
    """All agents of a folder, by file name. An absent folder has none."""
    found = [_declared(each, declaring) for each in read_folder(folder, SUFFIXES, "Agent")]
    return tuple(without_doubles(found, "agent", _faulty))


def _declared(found: Found, declaring: Declaring) -> Declared:
    if found.document is None:
        return _faulty(found.name, found.origin, found.reason)
    try:
        return Declared(found.name, found.origin, declaring.from_file(found.document))
    except InvalidInput as error:
        return _faulty(found.name, found.origin, error.message)


def _faulty(name: str, origin: str, reason: str) -> Declared:
    return Declared(name, origin, reason=reason)
