"""The configuration folder -> one frozen MeshConfig.

Faulty agents are kept with their reason and don't stop the others; a faulty runtime.yaml,
providers.yaml or budget stops the mesh before it starts. What has no effect is said in
`notices`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from servers.agents.declare import Check, Declaring
from servers.agents.files import Declared, read_agents
from servers.agents.manifest import Agent, ModelChoice
from servers.agents.manifest.tools import OWN_TOOLS
from servers.kernel.errors import AstromeshError, InvalidInput, NotReady
from servers.kernel.explain import nearest
from servers.kernel.manifest import Manifest, invalid, kind_of, parse
from servers.kernel.paths import Path as Place
from servers.kernel.paths import Wrong
from servers.kernel.yaml_text import MAX_BYTES, Document, read_yaml
from servers.rag.declared import SUFFIXES as RAG_FILES
from servers.rag.declared import DeclaredPipeline, read_pipelines
from servers.rag.manifest import RAGPipeline
from servers.router.budget_manifest import Budget as BudgetManifest
from servers.router.budget_manifest import budgets_of
from servers.router.budgets.budget import Budget
from servers.router.candidates import check_does
from servers.router.manifest import ProviderConfig
from servers.router.ports import RouterSettings
from servers.router.targets import resolve
from servers.runtime_config import RuntimeConfig, RuntimeSpec
from servers.tools.catalogue import function_at, plugin_names
from servers.tools.kinds import BUILTIN

SERVICES = ("agents", "router", "memory", "tools", "rag")
HTTP_PORT = 8080
# Where each service listens when it runs alone, and is dialled when runtime.yaml is silent.
GRPC_PORTS = {
    "agents": 50051,
    "router": 50052,
    "memory": 50053,
    "tools": 50054,
    "rag": 50055,
}

_RUNTIME, _PROVIDERS, _PRICES = "runtime.yaml", "providers.yaml", "prices.yaml"
_BUDGETS, _BUDGET_FILES = "budgets.yaml", (".budget.yaml", ".budget.yml")

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """All that a process of the mesh is told."""

    config_dir: Path
    state_dir: Path
    env: Mapping[str, str] = field(repr=False)  # for keys; it may hold secrets
    local: frozenset[str]  # the services of this process
    remote: Mapping[str, str]  # the others: service -> address
    http_port: int
    grpc_port: int
    runtime: RuntimeSpec
    router: RouterSettings
    agents: tuple[Declared, ...]
    declaring: Declaring  # reads agents under this configuration
    tool_functions: Mapping[str, str]  # tool name -> "module:function"
    host: str = "127.0.0.1"
    notices: tuple[str, ...] = ()  # files that have no effect
    budgets: tuple[Budget, ...] = ()
    pipelines: tuple[DeclaredPipeline, ...] = ()

    @property
    def agents_dir(self) -> Path:
        return self.config_dir / "agents"

    @property
    def key_variables(self) -> frozenset[str]:
        """Environment variables that the folder names as keys."""
        providers = {each.api_key_env for each in self.router.providers.values()}
        agents = {
            choice.api_key_env
            for each in self.agents
            if each.agent
            for _, choice in _choices(each.agent)
        }
        semantic = {
            each.agent.semantic.embeddings.api_key_env
            for each in self.agents
            if each.agent and each.agent.semantic
        }
        semantic |= {c.embeddings.api_key_env for c in self.runtime.memory.collections.values()}
        rag = {name for each in self.pipelines if each.pipeline for name in each.pipeline.variables}
        return frozenset((providers | agents | semantic | rag) - {""})

    @property
    def prices_file(self) -> Path:
        return self.config_dir / _PRICES


def load_config(
    config_dir: Path,
    state_dir: Path,
    env: Mapping[str, str],
    services: Sequence[str] = (),
    *,
    http_port: int | None = None,
    grpc_port: int | None = None,
) -> MeshConfig:
    """Read the folder for a process that runs `services`; all of them where none is named.

    Raises NotReady (CONFIG_MISSING) without the folder, InvalidInput for files and names
    that don't make sense.
    """
    if not config_dir.is_dir():
        raise NotReady(
            f"there is no configuration folder {str(config_dir)!r}; create it, or name another "
            "with --config or ASTROMESH_CONFIG_DIR",
            reason="CONFIG_MISSING",
        )
    runtime = _runtime(config_dir, env)
    local = _local(services)
    router = _router(config_dir, env)
    if "router" in local:
        _check_collections(runtime, router)
    remote = _remote(local, runtime)
    # The router reads them, too: they name keys that its callers may use.
    pipelines = read_pipelines(config_dir / "rag", env, _embeds(router, "router" in local))
    check = _all_of(
        _models_exist(router) if "router" in local else _unchecked,
        _embeddings_exist(router) if "router" in local else _unchecked,
        _backends_exist(runtime) if "memory" in local else _unchecked,
        _collections_exist(runtime) if "memory" in local else _unchecked,
        _pipelines_exist(pipelines) if "rag" in local else _unchecked,
    )
    orchestration = runtime.defaults.orchestration
    declaring = Declaring(env, check, orchestration.max_iterations, orchestration.pattern)
    # The memory service reads them, too: they say where their conversations are kept.
    wanted = local & {"agents", "memory"}
    agents = read_agents(config_dir / "agents", declaring) if wanted else ()
    if "tools" in local:
        agents = tuple(_with_tools(agents, runtime))
    return MeshConfig(
        config_dir=config_dir,
        state_dir=state_dir,
        env=env,
        local=local,
        remote=remote,
        http_port=_first(http_port, runtime.api.port, HTTP_PORT),
        grpc_port=_first(grpc_port, runtime.api.grpc_port, _usual_port(local)),
        runtime=runtime,
        router=router,
        agents=agents,
        declaring=declaring,
        tool_functions=_functions(runtime, agents),
        host=runtime.api.host,
        notices=tuple(_without_effect(config_dir)),
        budgets=_budgets(config_dir, env, router),
        pipelines=pipelines,
    )


# -- the files -----------------------------------------------------------------------------


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


def _runtime(config_dir: Path, env: Mapping[str, str]) -> RuntimeSpec:
    found = _manifests(config_dir / _RUNTIME, RuntimeConfig, env)
    if len(found) > 1:
        raise InvalidInput(f"{_RUNTIME}: holds {len(found)} documents; one says it all")
    return found[0][1].spec if found else RuntimeSpec()


def _router(config_dir: Path, env: Mapping[str, str]) -> RouterSettings:
    settings = RouterSettings()
    for document, config in _manifests(config_dir / _PROVIDERS, ProviderConfig, env):
        if wrong := list(config.wrong()):
            raise invalid(document, wrong)
        settings = settings.merged(config.settings())
    return settings


def _budgets(
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


def _without_effect(config_dir: Path) -> Iterator[str]:
    """Files that users may expect to matter."""
    known = {config_dir / name for name in (_RUNTIME, _PROVIDERS, _PRICES, _BUDGETS)}
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


# -- services ------------------------------------------------------------------------------


def _local(services: Sequence[str]) -> frozenset[str]:
    for name in services:
        if name not in SERVICES:
            raise InvalidInput(f"no service {name!r}; there are {', '.join(SERVICES)}")
    return frozenset(services or SERVICES)


def _remote(local: frozenset[str], runtime: RuntimeSpec) -> dict[str, str]:
    declared = {name: getattr(runtime.services, name) for name in SERVICES}
    return {
        name: place.address if place else f"127.0.0.1:{GRPC_PORTS[name]}"
        for name, place in declared.items()
        if name not in local
    }


def _usual_port(local: frozenset[str]) -> int:
    return min(GRPC_PORTS[name] for name in local)


def _first(*ports: int | None) -> int:
    return next(port for port in ports if port is not None)


# -- agents --------------------------------------------------------------------------------


def _functions(runtime: RuntimeSpec, agents: Sequence[Declared]) -> dict[str, str]:
    """Functions that agents name, then those of runtime.yaml, which win."""
    named = {
        tool.name: tool.function
        for each in agents
        if each.agent
        for tool in each.agent.spec.tools
        if tool.function
    }
    return named | dict(runtime.tools.functions)


def _with_tools(agents: Sequence[Declared], runtime: RuntimeSpec) -> Iterator[Declared]:
    """Without those agents whose tools can't be had: they stop nobody else."""
    functions = _functions(runtime, agents)
    known = {*BUILTIN, *plugin_names(), *functions}
    # What runtime.yaml names, it names for all; of two agents one must give way.
    taken = {n: f for n, f in functions.items() if n not in runtime.tools.functions}
    for each in agents:
        wrong = next(_wrong_tools(each.agent, known, taken), "") if each.agent else ""
        yield Declared(each.name, each.origin, reason=f"{each.origin}: {wrong}") if wrong else each


def _wrong_tools(agent: Agent, known: Collection[str], taken: Mapping[str, str]) -> Iterator[str]:
    for index, tool in enumerate(agent.spec.tools):
        place = f"spec.tools[{index}]"
        if tool.type in OWN_TOOLS:
            continue  # not of the tools service
        if tool.name not in known:
            hint = nearest(tool.name, sorted(known))
            yield f"{place}.name: no tool is named {tool.name!r}{hint}"
        elif tool.function and tool.name in BUILTIN:
            yield f"{place}.name: {tool.name!r} is built in; choose another name"
        elif tool.function and taken.get(tool.name, tool.function) != tool.function:
            yield f"{place}.name: {tool.name!r} is {taken[tool.name]!r} already; rename one"
        elif tool.function:
            try:
                function_at(tool.name, tool.function)
            except AstromeshError as error:
                yield f"{place}.function: {error.message}"


def _models_exist(settings: RouterSettings) -> Check:
    def check(agent: Agent) -> Iterator[Wrong]:
        for place, choice in _choices(agent):
            try:
                check_does(resolve(choice.ref(), settings), "chat")
            except InvalidInput as error:
                yield Wrong(place, error.message)

    return check


def _embeds(settings: RouterSettings, here: bool) -> Callable[[RAGPipeline], Iterator[Wrong]]:
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


def _all_of(*checks: Check) -> Check:
    return lambda agent: (wrong for check in checks for wrong in check(agent))


def _backends_exist(runtime: RuntimeSpec) -> Check:
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


def _embeddings_exist(settings: RouterSettings) -> Check:
    def check(agent: Agent) -> Iterator[Wrong]:
        for ref in agent.semantic.embeddings.candidates() if agent.semantic else ():
            try:
                check_does(resolve(ref, settings), "embed")
            except InvalidInput as error:
                yield Wrong(("spec", "memory", "semantic", "embeddings", "provider"), error.message)

    return check


def _collections_exist(runtime: RuntimeSpec) -> Check:
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


def _check_collections(runtime: RuntimeSpec, settings: RouterSettings) -> None:
    """Raises InvalidInput for a model of vectors that there isn't."""
    for name, each in runtime.memory.collections.items():
        for ref in each.candidates():
            try:
                check_does(resolve(ref, settings), "embed")
            except InvalidInput as error:
                place = f"spec.memory.collections.{name}.embeddings.provider"
                raise InvalidInput(f"{_RUNTIME}: {place}: {error.message}") from error


def _pipelines_exist(pipelines: Sequence[DeclaredPipeline]) -> Check:
    known = sorted(each.name for each in pipelines)

    def check(agent: Agent) -> Iterator[Wrong]:
        for place, name in agent.pipelines():
            if name not in known:
                yield Wrong(place, f"there is no pipeline {name!r}{nearest(name, known)}")

    return check


def _unchecked(agent: Agent) -> Iterator[Wrong]:
    """The process that runs the router knows the providers."""
    return iter(())


def _choices(agent: Agent) -> Iterator[tuple[Place, ModelChoice]]:
    model = agent.spec.model
    if model.primary:
        yield ("spec", "model", "primary", "provider"), model.primary
    for index, choice in enumerate(model.fallback):
        yield ("spec", "model", "fallback", index, "provider"), choice
    groups = {("roles", name): each for name, each in model.roles.items()}
    for keys, group in [(("default",), model.default), *groups.items()]:
        for index, choice in enumerate(group.candidates if group else ()):
            yield ("spec", "model", *keys, "candidates", index, "provider"), choice
