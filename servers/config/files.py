"""The files of the configuration folder that say one thing each: read, and what has no effect."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from servers.config.runtime import RuntimeConfig, RuntimeSpec
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import Manifest, invalid, kind_of, parse
from servers.kernel.yaml_text import MAX_BYTES, Document, read_yaml
from servers.rag.declared import SUFFIXES as RAG_FILES
from servers.router.budgets.budget import Budget
from servers.router.manifest.budgets import Budget as BudgetManifest
from servers.router.manifest.budgets import budgets_of
from servers.router.manifest.providers import ProviderConfig
from servers.router.ports import RouterSettings

RUNTIME, PRICES = "runtime.yaml", "prices.yaml"
_PROVIDERS = "providers.yaml"
_BUDGETS, _BUDGET_FILES = "budgets.yaml", (".budget.yaml", ".budget.yml")

M = TypeVar("M", bound=Manifest)


def read_file(path: Path) -> tuple[Document, ...]:
    """Raises InvalidInput that names the file."""
    try:
        with path.open("rb") as file:
            return read_yaml(file.read(MAX_BYTES + 1), path.name)
    except OSError as error:
        raise InvalidInput(f"{path.name}: {error.strerror}") from error


def _manifests(path: Path, kind: type[M], env: Mapping[str, str]) -> list[tuple[Document, M]]:
    if not path.exists():
        return []
    return [(document, parse(kind, document, env)) for document in read_file(path)]


def read_runtime(config_dir: Path, env: Mapping[str, str]) -> RuntimeSpec:
    found = _manifests(config_dir / RUNTIME, RuntimeConfig, env)
    if len(found) > 1:
        raise InvalidInput(f"{RUNTIME}: holds {len(found)} documents; one says it all")
    return found[0][1].spec if found else RuntimeSpec()


def read_providers(config_dir: Path, env: Mapping[str, str]) -> RouterSettings:
    settings = RouterSettings()
    for document, config in _manifests(config_dir / _PROVIDERS, ProviderConfig, env):
        if wrong := list(config.wrong()):
            raise invalid(document, wrong)
        settings = settings.merged(config.settings())
    return settings


def read_budgets(
    config_dir: Path, env: Mapping[str, str], router: RouterSettings
) -> tuple[Budget, ...]:
    """One that is not applied would be worse than none: any fault is an error."""
    files = [config_dir / _BUDGETS, *filter(_holds_budgets, sorted(config_dir.glob("budgets/*")))]
    found = [each for file in files for each in _manifests(file, BudgetManifest, env)]
    return budgets_of(found, router)


def _holds_budgets(path: Path) -> bool:
    return path.parent.name == "budgets" and path.name.endswith(_BUDGET_FILES)


def _holds_pipelines(path: Path) -> bool:
    return path.parent.name == "rag" and path.name.endswith(RAG_FILES)


def without_effect(config_dir: Path) -> Iterator[str]:
    """Files that users may expect to matter."""
    known = {config_dir / name for name in (RUNTIME, _PROVIDERS, PRICES, _BUDGETS)}
    places = ("*.y*ml", "rag/*.y*ml", "budgets/*.y*ml")
    for path in sorted(path for place in places for path in config_dir.glob(place)):
        if path not in known and not _holds_budgets(path) and not _holds_pipelines(path):
            yield f"{path.relative_to(config_dir)}: {_what_it_is(path)}; the file has no effect"


def _what_it_is(path: Path) -> str:
    try:
        kinds = {kind_of(document) or "?" for document in read_file(path)}
    except InvalidInput as error:
        return error.message.removeprefix(f"{path.name}: ")
    if kinds & {"Agent"}:
        return "agents are read from agents/*.agent.yaml only"
    if kinds & {"RAGPipeline"}:
        return "pipelines are read from rag/*.rag.yaml only"
    if kinds & {"Budget"}:
        return "budgets are read from budgets.yaml and budgets/*.budget.yaml only"
    named = ", ".join(sorted(kinds - {"?"}))
    return f"kind {named} is not part of this version" if named else "nothing reads it"
