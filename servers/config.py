"""The configuration folder -> one frozen MeshConfig.

Faulty agents are kept with their reason and don't stop the others; a faulty runtime.yaml,
providers.yaml or budget stops the mesh before it starts. What has no effect is said in
`notices`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from servers import config_checks as checks
from servers import config_files as files
from servers.agents.declare import Declaring
from servers.agents.files import Declared, read_agents
from servers.kernel.errors import InvalidInput, NotReady
from servers.rag.declared import DeclaredPipeline, read_pipelines
from servers.router.budgets.budget import Budget
from servers.router.ports import RouterSettings
from servers.runtime_config import RuntimeSpec

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
            for _, choice in checks.choices(each.agent)
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
        return self.config_dir / files.PRICES


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
    remote = _remote(local, runtime)
    # The router reads them, too: they name keys that its callers may use.
    pipelines = read_pipelines(config_dir / "rag", env, checks.embeds(router, "router" in local))
    check = checks.all_of(
        checks.models_exist(router) if "router" in local else checks.unchecked,
        checks.embeddings_exist(router) if "router" in local else checks.unchecked,
        checks.backends_exist(runtime) if "memory" in local else checks.unchecked,
        checks.collections_exist(runtime) if "memory" in local else checks.unchecked,
        checks.pipelines_exist(pipelines) if "rag" in local else checks.unchecked,
    )
    orchestration = runtime.defaults.orchestration
    declaring = Declaring(env, check, orchestration.max_iterations, orchestration.pattern)
    # The memory service reads them, too: they say where their conversations are kept.
    wanted = local & {"agents", "memory"}
    agents = read_agents(config_dir / "agents", declaring) if wanted else ()
    if "tools" in local:
        agents = tuple(checks.with_tools(agents, runtime))
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
        tool_functions=checks.functions_of(runtime, agents),
        host=runtime.api.host,
        notices=tuple(files.without_effect(config_dir)),
        budgets=files.read_budgets(config_dir, env, router),
        pipelines=pipelines,
    )


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
