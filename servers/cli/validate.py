"""Checks configuration as the mesh would read it, without one."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.files import Declared
from servers.agents.catalogue.teams import team
from servers.agents.manifest import Agent
from servers.cli.failures import FAILED, line
from servers.config import load_config
from servers.config.files import read_file
from servers.config.runtime import RuntimeConfig
from servers.kernel.errors import AstromeshError, InvalidInput, NotFound
from servers.kernel.explain import nearest
from servers.kernel.manifest import invalid, kind_of, parse
from servers.kernel.yaml_text import Document
from servers.rag.manifest import RAGPipeline
from servers.router.manifest.budgets import Budget
from servers.router.manifest.providers import ProviderConfig
from servers.router.routing.prices import load_prices

_MARKS = (
    "agents",
    "runtime.yaml",
    "providers.yaml",
    "budgets.yaml",
)  # a folder with one of them is a config


def validate(paths: Sequence[Path]) -> int:
    """Print every fault; gives the exit code."""
    found = faults(paths)
    for fault in found:
        print(f"error: {line(fault)}", file=sys.stderr)
        for violation in fault.violations[1:]:  # the message has the first
            print(f"  {violation.field}: {violation.description}", file=sys.stderr)
    if not found:
        print(f"valid: {', '.join(map(str, paths))}")
    return FAILED if found else 0


def faults(paths: Sequence[Path]) -> list[AstromeshError]:
    return [fault for path in paths for fault in _in(path)]


def _in(path: Path) -> Iterator[AstromeshError]:
    if not path.is_dir():
        yield from _in_file(path)
    elif any((path / mark).exists() for mark in _MARKS):
        yield from _in_config(path)
    else:
        for file in sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]):
            yield from _in_file(file)


def _in_config(folder: Path) -> Iterator[AstromeshError]:
    try:
        config = load_config(folder, Path(".state"), os.environ)
        if (prices := folder / "prices.yaml").exists():
            load_prices(prices)
    except AstromeshError as error:
        yield error
        return
    for each in config.agents:
        if each.reason:
            yield InvalidInput(each.reason, reason="AGENT_NOT_READY")
    for pipeline in config.pipelines:
        if pipeline.reason:
            yield InvalidInput(pipeline.reason, reason="PIPELINE_NOT_READY")
    yield from _teams(config.agents)
    for notice in config.notices:
        yield InvalidInput(notice)


def _teams(declared: Sequence[Declared]) -> Iterator[AstromeshError]:
    """Agents that name others which aren't there, or one another in a circle."""
    known = {each.name: each.agent for each in declared if each.agent}

    async def find(name: str) -> Agent:
        if agent := known.get(name):
            return agent
        raise NotFound(f"there is no agent {name!r}{nearest(name, sorted(known))}")

    for agent in known.values():
        try:
            asyncio.run(team(agent, find))
        except AstromeshError as error:
            yield error


def _in_file(path: Path) -> Iterator[AstromeshError]:
    try:
        documents = read_file(path)
    except AstromeshError as error:
        yield error
        return
    if not documents:
        yield InvalidInput(f"{path.name}: the file is empty")
    for document in documents:
        try:
            _check(document)
        except AstromeshError as error:
            yield error


def _check(document: Document) -> None:
    kind = kind_of(document)
    if kind not in _CHECKS:
        raise InvalidInput(f"{document.origin}: kind is {kind!r}" + nearest(kind, list(_CHECKS)))
    _CHECKS[kind](document)


def _provider(document: Document) -> None:
    if wrong := list(parse(ProviderConfig, document, os.environ).wrong()):
        raise invalid(document, wrong)


_CHECKS: dict[str, Callable[[Document], object]] = {
    "Budget": lambda document: parse(Budget, document, os.environ),
    "Agent": lambda document: Declaring(os.environ).from_file(document),
    "ProviderConfig": _provider,
    "RAGPipeline": lambda document: parse(RAGPipeline, document, os.environ),
    "RuntimeConfig": lambda document: parse(RuntimeConfig, document, os.environ),
}
