"""Agents that files declare. A file that can't be read doesn't stop the others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from servers.agents.declare import Declaring
from servers.agents.manifest import Agent
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import kind_of
from servers.kernel.paths import at
from servers.kernel.yaml_text import MAX_BYTES, Document, read_yaml

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
    if not folder.is_dir():
        return ()
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    found = [each for path in paths for each in _read(path, declaring)]
    return tuple(_without_doubles(found))


def _read(path: Path, declaring: Declaring) -> Iterator[Declared]:
    name = path.name.partition(".")[0]
    try:
        with path.open("rb") as file:
            documents = read_yaml(file.read(MAX_BYTES + 1), path.name)
    except InvalidInput as error:
        yield Declared(name, path.name, reason=error.message)
        return
    except OSError as error:
        yield Declared(name, path.name, reason=f"{path.name}: {error.strerror}")
        return
    if not documents:
        yield Declared(name, path.name, reason=f"{path.name}: the file is empty")
    for document in documents:
        yield _declared(document, name, declaring)


def _declared(document: Document, file_name: str, declaring: Declaring) -> Declared:
    named = at(document.value, ("metadata", "name")) if kind_of(document) == "Agent" else None
    name = named if isinstance(named, str) and named else file_name
    try:
        return Declared(name, document.origin, declaring.from_file(document))
    except InvalidInput as error:
        return Declared(name, document.origin, reason=error.message)


def _without_doubles(found: Sequence[Declared]) -> Iterator[Declared]:
    """Of two agents with one name neither runs: which one is meant is not ours to guess."""
    by_name = defaultdict(list)
    for each in found:
        by_name[each.name].append(each)
    for name, alike in by_name.items():
        if len(alike) == 1:
            yield alike[0]
            continue
        files = " and ".join(each.origin for each in alike)
        yield Declared(name, alike[0].origin, reason=f"{files}: both declare the agent {name!r}")
