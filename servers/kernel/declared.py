"""What files of a folder declare, document by document. One that is faulty stops no other."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import kind_of
from servers.kernel.paths import at
from servers.kernel.yaml_text import MAX_BYTES, Document, read_yaml


@dataclass(frozen=True, slots=True)
class Found:
    """A document, or the reason why there is none."""

    name: str  # that it gives itself; where it doesn't: the file's own
    origin: str
    document: Document | None = None
    reason: str = ""


class Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def origin(self) -> str: ...


N = TypeVar("N", bound=Named)


def read_folder(folder: Path, suffixes: tuple[str, ...], kind: str) -> Iterator[Found]:
    """By file name. An absent folder has none. Hidden files are editors' own, not the user's."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.endswith(suffixes) and not path.name.startswith("."):
                yield from _read(path, kind)


def _read(path: Path, kind: str) -> Iterator[Found]:
    name = path.name.partition(".")[0]
    try:
        with path.open("rb") as file:
            documents = read_yaml(file.read(MAX_BYTES + 1), path.name)
    except InvalidInput as error:
        yield Found(name, path.name, reason=error.message)
        return
    except OSError as error:
        yield Found(name, path.name, reason=f"{path.name}: {error.strerror}")
        return
    if not documents:
        yield Found(name, path.name, reason=f"{path.name}: the file is empty")
    for document in documents:
        named = at(document.value, ("metadata", "name")) if kind_of(document) == kind else None
        known = named if isinstance(named, str) and named else name
        yield Found(known, document.origin, document)


def without_doubles(
    found: Iterable[N], what: str, faulty: Callable[[str, str, str], N]
) -> Iterator[N]:
    """Of two with one name neither stays: which one is meant is not ours to guess. `faulty`
    makes what stands in their place, of name, origin and reason."""
    by_name = defaultdict(list)
    for each in found:
        by_name[each.name].append(each)
    for name, alike in by_name.items():
        if len(alike) == 1:
            yield alike[0]
            continue
        files = " and ".join(each.origin for each in alike)
        yield faulty(name, alike[0].origin, f"{files}: both declare the {what} {name!r}")
