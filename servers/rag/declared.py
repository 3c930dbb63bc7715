"""Pipelines that files declare. A file that can't be read doesn't stop the others."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import invalid, kind_of, parse
from servers.kernel.paths import Wrong, at
from servers.kernel.yaml_text import MAX_BYTES, Document, read_yaml
from servers.rag.manifest import RAGPipeline

SUFFIXES = (".rag.yaml", ".rag.yml")

Check: TypeAlias = Callable[[RAGPipeline], Iterable[Wrong]]


@dataclass(frozen=True, slots=True)
class DeclaredPipeline:
    """What one document of a file declares: a pipeline, or the reason why it is none."""

    name: str  # where the file doesn't say: the file's own
    origin: str
    pipeline: RAGPipeline | None = None
    reason: str = ""


def read_pipelines(
    folder: Path, env: Mapping[str, str], check: Check
) -> tuple[DeclaredPipeline, ...]:
    """All pipelines of a folder, by file name. An absent folder has none."""
    if not folder.is_dir():
        return ()
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    found = [each for path in paths for each in _read(path, env, check)]
    return tuple(_without_doubles(found))


def pipeline_of(document: Document, env: Mapping[str, str], check: Check) -> RAGPipeline:
    """Raises InvalidInput (MANIFEST_INVALID) with every violation."""
    pipeline = parse(RAGPipeline, document, env)
    if wrong := list(check(pipeline)):
        raise invalid(document, wrong)
    return pipeline


def _read(path: Path, env: Mapping[str, str], check: Check) -> Iterator[DeclaredPipeline]:
    name = path.name.partition(".")[0]
    try:
        with path.open("rb") as file:
            documents = read_yaml(file.read(MAX_BYTES + 1), path.name)
    except InvalidInput as error:
        yield DeclaredPipeline(name, path.name, reason=error.message)
        return
    except OSError as error:
        yield DeclaredPipeline(name, path.name, reason=f"{path.name}: {error.strerror}")
        return
    if not documents:
        yield DeclaredPipeline(name, path.name, reason=f"{path.name}: the file is empty")
    for document in documents:
        named = at(document.value, ("metadata", "name")) if kind_of(document) else None
        said = named if isinstance(named, str) and named else name
        try:
            pipeline = pipeline_of(document, env, check)
            yield DeclaredPipeline(said, document.origin, pipeline)
        except InvalidInput as error:
            yield DeclaredPipeline(said, document.origin, reason=error.message)


def _without_doubles(found: Sequence[DeclaredPipeline]) -> Iterator[DeclaredPipeline]:
    by_name = defaultdict(list)
    for each in found:
        by_name[each.name].append(each)
    for name, alike in by_name.items():
        if len(alike) == 1:
            yield alike[0]
            continue
        files = " and ".join(each.origin for each in alike)
        reason = f"{files}: both declare the pipeline {name!r}"
        yield DeclaredPipeline(name, alike[0].origin, reason=reason)
