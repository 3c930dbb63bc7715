"""Whether there is what agents and pipelines name: models, tools, backends, pipelines."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from servers.agents.catalogue.declare import Check
from servers.agents.catalogue.files import Declared
from servers.agents.manifest import Agent, ModelChoice
from servers.agents.manifest.tools import OWN_TOOLS
from servers.config.files import RUNTIME
from servers.config.runtime import RuntimeSpec
from servers.kernel.errors import AstromeshError, InvalidInput
from servers.kernel.explain import nearest
from servers.kernel.paths import Path as Place
from servers.kernel.paths import Wrong
from servers.rag.manifest import RAGPipeline
from servers.router.ports import RouterSettings
from servers.router.routing.candidates import check_does
from servers.router.routing.targets import resolve
from servers.tools.catalogue import function_at, plugin_names
from servers.tools.kinds import BUILTIN


def functions_of(runtime: RuntimeSpec, agents: Sequence[Declared]) -> dict[str, str]:
    """Functions that agents name, then those of runtime.yaml, which win."""
    named = {
        tool.name: tool.function
        for each in agents
        if each.agent
        for tool in each.agent.spec.tools
        if tool.function
    }
    return named | dict(runtime.tools.functions)


def with_tools(
    agents: Sequence[Declared], runtime: RuntimeSpec, started: Mapping[str, str] | None = None
) -> Iterator[Declared]:
    """Without those agents whose tools can't be had: they stop nobody else. `started`: the
    functions that the mesh started with, once it runs; no others come before its next start."""
    functions = functions_of(runtime, agents) if started is None else started
    known = {*BUILTIN, *plugin_names(), *functions}
    # What runtime.yaml names, it names for all; of two agents one must give way.
    taken = {n: f for n, f in functions.items() if n not in runtime.tools.functions}
    way = "rename one" if started is None else "rename one, or start the mesh again"
    for each in agents:
        wrong = next(_wrong_tools(each.agent, known, taken, way), "") if each.agent else ""
        yield Declared(each.name, each.origin, reason=f"{each.origin}: {wrong}") if wrong else each


def _wrong_tools(
    agent: Agent, known: Collection[str], taken: Mapping[str, str], way: str
) -> Iterator[str]:
    for index, tool in enumerate(agent.spec.tools):
        place = f"spec.tools[{index}]"
        if tool.type in OWN_TOOLS:
            continue  # not of the tools service
        if tool.name not in known and not tool.function:
            hint = nearest(tool.name, sorted(known))
            yield f"{place}.name: no tool is named {tool.name!r}{hint}"
        elif tool.function and tool.name in BUILTIN:
            yield f"{place}.name: {tool.name!r} is built in; choose another name"
        elif tool.function and taken.get(tool.name, tool.function) != tool.function:
            yield f"{place}.name: {tool.name!r} is {taken[tool.name]!r} already; {way}"
        elif tool.function:
            try:
                function_at(tool.name, tool.function)
            except AstromeshError as error:
                yield f"{place}.function: {error.message}"
            if tool.name not in known:
                yield f"{place}.function: functions are read when the mesh starts: start it again"


def models_exist(settings: RouterSettings) -> Check:
    def check(agent: Agent) -> Iterator[Wrong]:
        for place, choice in choices(agent):
            try:
                check_does(resolve(choice.ref, settings), "chat")
            except InvalidInput as error:
                yield Wrong(place, error.message)

    return check


def embeds(settings: RouterSettings, here: bool) -> Callable[[RAGPipeline], Iterator[Wrong]]:
    """Whether there are the models that a pipeline names; known where the router is `here`."""

    def check(pipeline: RAGPipeline) -> Iterator[Wrong]:
        spec = pipeline.spec
        asked = [("embeddings", "embed", spec.embeddings.candidates())]
        asked += [("reranking", "rerank", r.candidates())] if (r := spec.reranking) else []
        for key, deed, candidates in asked if here else ():
            for ref in candidates:
                try:
                    check_does(resolve(ref, settings), deed)
                except InvalidInput as error:
                    yield Wrong(("spec", key, "provider"), error.message)

    return check


def all_of(*checks: Check) -> Check:
    return lambda agent: (wrong for check in checks for wrong in check(agent))


def backends_exist(runtime: RuntimeSpec) -> Check:
    backends = runtime.memory.backends
    known = ("sqlite", *backends)

    def check(agent: Agent) -> Iterator[Wrong]:
        talk, happened = agent.conversation, agent.episodes
        for section, kept in (("conversational", talk), ("episodic", happened)):
            if kept and not kept.connection.url and kept.backend not in known:
                yield (
                    Wrong(
                        ("spec", "memory", section, "backend"),
                        f"there is no backend {kept.backend!r}"
                        f"{nearest(kept.backend, sorted(known))}; add it to spec.memory.backends "
                        "of runtime.yaml, or say connection.url here",
                    )
                )
        if happened and happened.backend in backends and backends[happened.backend].kind == "redis":
            yield (
                Wrong(
                    ("spec", "memory", "episodic", "backend"),
                    f"{happened.backend!r} is Redis, which keeps no episodes; use 'sqlite', or a "
                    "backend that is PostgreSQL",
                )
            )

    return check


def embeddings_exist(settings: RouterSettings) -> Check:
    def check(agent: Agent) -> Iterator[Wrong]:
        for ref in agent.semantic.embeddings.candidates() if agent.semantic else ():
            try:
                check_does(resolve(ref, settings), "embed")
            except InvalidInput as error:
                yield Wrong(("spec", "memory", "semantic", "embeddings", "provider"), error.message)

    return check


def collections_exist(runtime: RuntimeSpec) -> Check:
    known = ("default", *runtime.memory.collections)

    def check(agent: Agent) -> Iterator[Wrong]:
        said = agent.semantic
        if said and not said.backend and said.collection not in ("", *known):
            hint = nearest(said.collection, sorted(known))
            yield Wrong(
                ("spec", "memory", "semantic", "collection"),
                f"there is no collection {said.collection!r}{hint}; add it to "
                "spec.memory.collections of runtime.yaml, or say a backend here",
            )

    return check


def check_collections(runtime: RuntimeSpec, settings: RouterSettings) -> None:
    """Raises InvalidInput for a model of vectors that there isn't."""
    for name, each in runtime.memory.collections.items():
        for ref in each.candidates():
            try:
                check_does(resolve(ref, settings), "embed")
            except InvalidInput as error:
                place = f"spec.memory.collections.{name}.embeddings.provider"
                raise InvalidInput(f"{RUNTIME}: {place}: {error.message}") from error


def pipelines_exist(pipelines: Callable[[], Collection[str]]) -> Check:
    """`pipelines` names those that there are when an agent is read."""

    def check(agent: Agent) -> Iterator[Wrong]:
        known = sorted(pipelines())
        for place, name in agent.pipelines():
            if name not in known:
                yield Wrong(place, f"there is no pipeline {name!r}{nearest(name, known)}")

    return check


def choices(agent: Agent) -> Iterator[tuple[Place, ModelChoice]]:
    model = agent.spec.model
    if model.primary:
        yield ("spec", "model", "primary", "provider"), model.primary
    for index, choice in enumerate(model.fallback):
        yield ("spec", "model", "fallback", index, "provider"), choice
    groups = {("roles", name): each for name, each in model.roles.items()}
    for keys, group in [(("default",), model.default), *groups.items()]:
        for index, choice in enumerate(group.candidates if group else ()):
            yield ("spec", "model", *keys, "candidates", index, "provider"), choice
