"""The environment variables that files name as keys, which callers of the router may name."""

from collections.abc import Iterable, Iterator

from servers.agents.manifest import Agent
from servers.config.checks import choices
from servers.config.runtime import RuntimeSpec
from servers.rag.manifest import RAGPipeline
from servers.router.ports import RouterSettings


class KeyVariables:
    """They only become more: what began with an older version of a file goes on with its key.
    The next start forgets those that no file names any more."""

    def __init__(self, router: RouterSettings, runtime: RuntimeSpec) -> None:
        providers = {each.api_key_env for each in router.providers.values()}
        collections = {each.embeddings.api_key_env for each in runtime.memory.collections.values()}
        self._names = frozenset((providers | collections) - {""})

    def add(self, agents: Iterable[Agent], pipelines: Iterable[RAGPipeline]) -> None:
        found = {name for agent in agents for name in _of(agent)}
        found |= {name for pipeline in pipelines for name in pipeline.variables}
        self._names |= found - {""}

    def __call__(self) -> frozenset[str]:
        return self._names


def _of(agent: Agent) -> Iterator[str]:
    yield from (choice.api_key_env for _, choice in choices(agent))
    if agent.semantic:
        yield agent.semantic.embeddings.api_key_env
