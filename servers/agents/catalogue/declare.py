"""From what somebody declared to an agent that is sound in itself: files and API alike."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from servers.agents.manifest import Agent
from servers.agents.manifest.orchestration import wrong_orchestration
from servers.agents.prompts import wrong_prompts
from servers.domain.chat import Json
from servers.kernel.json_schema import wrong_schema
from servers.kernel.manifest import invalid, parse
from servers.kernel.paths import Wrong, matches
from servers.kernel.yaml_text import Document

Check: TypeAlias = Callable[[Agent], Iterable[Wrong]]


def _nothing_wrong(agent: Agent) -> Iterable[Wrong]:
    return ()


@dataclass(frozen=True, slots=True)
class Declaring:
    """Reads agents. `env` is what files may refer to; `check` knows what lies outside of
    an agent, such as which providers there are. Raises InvalidInput (MANIFEST_INVALID)."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    check: Check = _nothing_wrong
    max_iterations: int | None = None  # of agents that don't say
    pattern: str | None = None  # likewise

    def from_file(self, document: Document) -> Agent:
        agent = self._filled(parse(Agent, document, self.env))
        self._check(document, agent)
        return agent

    def from_api(self, manifest: Json) -> Agent:
        """No environment and no functions: a caller must not reach into our process."""
        document = Document(dict(manifest))
        agent = self._filled(parse(Agent, document))
        self._check(document, agent, _only_for_files(agent))
        return agent

    def _filled(self, agent: Agent) -> Agent:
        return agent.with_defaults(max_iterations=self.max_iterations, pattern=self.pattern)

    def from_record(self, manifest: Json) -> Agent:
        """What was sound once, written down: variables are expanded in it already."""
        document = Document(dict(manifest))
        agent = self._filled(parse(Agent, document))
        self._check(document, agent)
        return agent

    def _check(self, document: Document, agent: Agent, more: Iterable[Wrong] = ()) -> None:
        wrong = [*wrong_prompts(agent), *_wrong_answers(agent)]
        wrong += wrong_orchestration(agent.spec.orchestration)
        if found := [*more, *wrong, *self.check(agent)]:
            raise invalid(document, found)


def _wrong_answers(agent: Agent) -> Iterable[Wrong]:
    if agent.output_schema and (wrong := wrong_schema(agent.output_schema)):
        yield Wrong(("spec", "output_schema", *wrong.path), wrong.says)


# Whoever may call the API must not learn what our environment holds by sending it to an
# address of his own.
_VARIABLES = (
    "spec.model.primary.api_key_env",
    "spec.model.fallback.*.api_key_env",
    "spec.model.default.candidates.*.api_key_env",
    "spec.model.roles.*.candidates.*.api_key_env",
)


_OWN_COLLECTION = tuple(
    f"spec.memory.semantic.{key}" for key in ("backend", "path", "embeddings", "dimension")
)


def _only_for_files(agent: Agent) -> Iterable[Wrong]:
    tree = agent.canonical()
    for path, _ in matches(tree, "spec.tools.*.function"):
        yield Wrong(path, "only agents in files may name functions")
    for pattern in _OWN_COLLECTION:
        for path, _ in matches(tree, pattern):
            yield Wrong(
                path,
                "only agents in files may have a collection of their own; name one of "
                "spec.memory.collections in runtime.yaml instead",
            )
    for path, _ in matches(tree, "spec.memory.*.connection"):
        yield Wrong(
            path,
            "only agents in files may say where a database is; name a backend of "
            "spec.memory.backends in runtime.yaml instead",
        )
    for pattern in _VARIABLES:
        for path, _ in matches(tree, pattern):
            yield Wrong(
                path,
                "only agents in files may name environment variables; name a provider of "
                "providers.yaml instead",
            )
