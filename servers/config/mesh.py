"""The configuration folder -> one frozen MeshConfig.

Faulty agents and pipelines are kept with their reason and don't stop the others; a faulty
runtime.yaml, providers.yaml or budget stops the mesh before it starts. What has no effect is
said in `notices`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.files import Declared, read_agents
from servers.config import checks, files
from servers.config.runtime import RuntimeSpec
from servers.kernel.errors import InvalidInput, NotReady
from servers.rag.declared import Check as PipelineCheck
from servers.rag.declared import DeclaredPipeline, read_pipelines
from servers.router.budgets.budget import Budget
from servers.router.ports import RouterSettings

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
# The router reads agents for the keys that they name, memory for where their conversations
# are, and rag for the pipelines that they need.
_READ_AGENTS = frozenset({"agents", "router", "memory", "rag"})
_READ_PIPELINES = frozenset({"router", "rag"})


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
    check_pipeline: PipelineCheck
    host: str = "127.0.0.1"
    notices: tuple[str, ...] = ()  # files that have no effect
    budgets: tuple[Budget, ...] = ()
    pipelines: tuple[DeclaredPipeline, ...] = ()

    @property
    def agents_dir(self) -> Path:
        return self.config_dir / "agents"

    @property
    def pipelines_dir(self) -> Path:
        return self.config_dir / "rag"

    @property
    def reads_agents(self) -> bool:
        return bool(self.local & _READ_AGENTS)

    @property
    def reads_pipelines(self) -> bool:
        return bool(self.local & _READ_PIPELINES)

    @property
    def prices_file(self) -> Path:
        return self.config_dir / files.PRICES

    def read_agents(self, declaring: Declaring) -> tuple[Declared, ...]:
        """As the folder has them now, while the mesh runs."""
        found = read_agents(self.agents_dir, declaring)
        if "tools" not in self.local:
            return found
        return tuple(checks.with_tools(found, self.runtime, self.tool_functions))

    def read_pipelines(self) -> tuple[DeclaredPipeline, ...]:
        """As the folder has them now."""
        return read_pipelines(self.pipelines_dir, self.env, self.check_pipeline)

    def declaring_with(self, pipelines: Callable[[], Collection[str]]) -> Declaring:
        """Which knows the pipelines that there are, where they are this process's."""
        if "rag" not in self.local:
            return self.declaring
        exist = checks.pipelines_exist(pipelines)
        return replace(self.declaring, check=checks.all_of(self.declaring.check, exist))


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
    runtime = files.read_runtime(config_dir, env)
    local = _local(services)
    router = files.read_providers(config_dir, env)
    if "router" in local:
        checks.check_collections(runtime, router)
    config = MeshConfig(
        config_dir=config_dir,
        state_dir=state_dir,
        env=env,
        local=local,
        remote=_remote(local, runtime),
        http_port=_first(http_port, runtime.api.port, HTTP_PORT),
        grpc_port=_first(grpc_port, runtime.api.grpc_port, _usual_port(local)),
        runtime=runtime,
        router=router,
        agents=(),
        declaring=_declaring(local, runtime, router, env),
        tool_functions={},
        check_pipeline=checks.embeds(router, "router" in local),
        host=runtime.api.host,
        notices=tuple(files.without_effect(config_dir)),
        budgets=files.read_budgets(config_dir, env, router),
    )
    return _with_folders(config)


def _with_folders(config: MeshConfig) -> MeshConfig:
    """And what the folders of agents and pipelines declare at the start."""
    pipelines = config.read_pipelines() if config.reads_pipelines else ()
    names = {each.name for each in pipelines}
    declaring = config.declaring_with(lambda: names)
    agents = read_agents(config.agents_dir, declaring) if config.reads_agents else ()
    if "tools" in config.local:
        agents = tuple(checks.with_tools(agents, config.runtime))
    functions = checks.functions_of(config.runtime, agents)
    return replace(config, agents=agents, tool_functions=functions, pipelines=pipelines)


def _declaring(
    local: frozenset[str], runtime: RuntimeSpec, router: RouterSettings, env: Mapping[str, str]
) -> Declaring:
    """Each process checks what it knows: another one knows the rest."""
    found = []
    if "router" in local:
        found += [checks.models_exist(router), checks.embeddings_exist(router)]
    if "memory" in local:
        found += [checks.backends_exist(runtime), checks.collections_exist(runtime)]
    orchestration = runtime.defaults.orchestration
    check = checks.all_of(*found)
    return Declaring(env, check, orchestration.max_iterations, orchestration.pattern)


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
