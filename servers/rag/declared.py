"""Pipelines that files declare. A file that can't be read doesn't stop the others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from servers.kernel.declared import Found, read_folder, without_doubles
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import invalid, parse
from servers.kernel.paths import Wrong
from servers.kernel.yaml_text import Document
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
    found = [_declared(each, env, check) for each in read_folder(folder, SUFFIXES, "RAGPipeline")]
    return tuple(without_doubles(found, "pipeline", _faulty))


def pipeline_of(document: Document, env: Mapping[str, str], check: Check) -> RAGPipeline:
    """Raises InvalidInput (MANIFEST_INVALID) with every violation."""
    pipeline = parse(RAGPipeline, document, env)
    if wrong := list(check(pipeline)):
        raise invalid(document, wrong)
    return pipeline


def _declared(found: Found, env: Mapping[str, str], check: Check) -> DeclaredPipeline:
    if found.document is None:
        return _faulty(found.name, found.origin, found.reason)
    try:
        pipeline = pipeline_of(found.document, env, check)
        return DeclaredPipeline(found.name, found.origin, pipeline)
    except InvalidInput as error:
        return _faulty(found.name, found.origin, error.message)


def _faulty(name: str, origin: str, reason: str) -> DeclaredPipeline:
    return DeclaredPipeline(name, origin, reason=reason)
