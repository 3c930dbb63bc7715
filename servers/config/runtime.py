"""kind: RuntimeConfig. Where the mesh listens, where its other parts are, what it may use."""

from base64 import b64decode
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from servers.domain.chat import ModelRef
from servers.kernel.addresses import kind_of, postgres_address, redis_address
from servers.kernel.fields import Count, FunctionPath, Large, Name, Seconds, Secret, Share, ToolName
from servers.kernel.later import Later
from servers.kernel.manifest import Manifest, Strict
from servers.kernel.spelling import Spelling
from servers.kernel.vectors.manifest import Embedding, VectorStore

_SHORTEST_KEY = 24  # bytes, of a webhook's secret

Port = Annotated[Count, Field(le=65535)]


class Api(Strict):
    """`port` is that of REST, SSE, gRPC and gRPC-Web; `grpc_port` that of gRPC alone."""

    host: str = "127.0.0.1"
    port: Port | None = None
    grpc_port: Port | None = None

    @field_validator("host")
    @classmethod
    def _is_loopback(cls, host: str) -> str:
        if host != "localhost" and not _loopback(host):
            raise ValueError(
                f"{host!r} can be reached from outside, and callers are not authenticated yet; "
                "use '127.0.0.1'"
            )
        return host


class OrchestrationDefaults(Strict):
    """For agents that don't say otherwise. The other patterns need agents to work with."""

    pattern: Literal["react", "plan_and_execute", "parallel_fan_out", "pipeline"] = "react"
    max_iterations: Annotated[Count, Field(le=100)] | None = None


class Defaults(Strict):
    orchestration: OrchestrationDefaults = OrchestrationDefaults()


class Place(Strict):
    """Where a service that another process runs can be dialled."""

    address: Annotated[str, Field(pattern=r"^[^\s/]+:\d+$")]


class Services(Strict):
    agents: Place | None = None
    router: Place | None = None
    memory: Place | None = None
    tools: Place | None = None
    rag: Place | None = None


class ToolSettings(Strict):
    """`functions`: Python functions as tools, name -> "module:function". `allowed_hosts`:
    hosts inside the own network that tools may call all the same."""

    functions: dict[ToolName, FunctionPath] = {}  # noqa: RUF012  # pydantic copies defaults
    allowed_hosts: tuple[str, ...] = ()


class RunLimits(Strict):
    """`tenant_runs`: at most so many of the active runs are one tenant's."""

    active_runs: Count = 1000
    tenant_runs: Count | None = None
    drain_seconds: Seconds = 10.0


class Redis(Strict):
    """What several processes share; without it, each has its own. Needs the extra `redis`."""

    url: Secret = ""
    prefix: Annotated[str, Field(min_length=1, max_length=64)] = "astromesh"

    @field_validator("url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        # Its text is not shown: it may hold a password.
        if url and not redis_address(url):
            raise ValueError("expected redis://HOST:PORT/DATABASE, or rediss:// for TLS")
        return url

    @field_validator("prefix")
    @classmethod
    def _is_plain(cls, prefix: str) -> str:
        # Braces would decide in which part of a cluster the keys are.
        if any(character in "{}*?[]" or character.isspace() for character in prefix):
            raise ValueError("has a character that keys can't have: braces, brackets, *, ?, blanks")
        return prefix


class RunSettings(Strict):
    """Where runs are kept, and how long. PostgreSQL needs the extra `postgres`."""

    backend: Literal["sqlite", "postgres"] = "sqlite"
    dsn: Secret = ""
    lease_seconds: Annotated[Seconds, Field(ge=1, le=3600)] = 15.0
    ttl: Seconds | None = None
    compact_after: Seconds | None = None

    @field_validator("dsn")
    @classmethod
    def _is_postgres(cls, dsn: str) -> str:
        # Its text is not shown: it may hold a password.
        if dsn and not postgres_address(dsn):
            raise ValueError("expected postgresql://USER@HOST:PORT/DATABASE")
        return dsn

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.backend == "postgres" and not self.dsn:
            raise ValueError("the backend 'postgres' needs a dsn; add dsn: ${DATABASE_URL}")
        if self.dsn and self.backend != "postgres":
            raise ValueError("a dsn is for PostgreSQL; add backend: postgres, or remove the dsn")
        if self.ttl and self.compact_after and self.compact_after >= self.ttl:
            raise ValueError(
                "compact_after has no effect: runs are forgotten before; let it be less than ttl"
            )
        return self


class MemoryBackend(Strict):
    """A database for conversations: Redis or PostgreSQL, as its address says."""

    url: Secret

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        # Its text is not shown: it may hold a password.
        if kind_of(url) is None:
            raise ValueError(
                "expected redis://HOST:PORT/DATABASE or postgresql://USER@HOST:PORT/DATABASE"
            )
        return url

    @property
    def kind(self) -> str:
        return kind_of(self.url) or ""


class MemoryCollection(VectorStore):
    """Where memories are kept, and the model of their vectors."""

    embeddings: Embedding = Embedding()
    duplicate_threshold: Annotated[Share, Field(gt=0)] = 0.97

    def candidates(self) -> tuple[ModelRef, ...]:
        return self.embeddings.candidates()


class MemorySettings(Strict):
    """Where agents may keep their conversations, besides `sqlite`, and what they remember,
    besides `default`."""

    backends: dict[Name, MemoryBackend] = {}  # noqa: RUF012
    collections: dict[Name, MemoryCollection] = {}  # noqa: RUF012

    @field_validator("backends")
    @classmethod
    def _are_named_well(cls, backends: dict[str, MemoryBackend]) -> dict[str, MemoryBackend]:
        if "sqlite" in backends:
            raise ValueError("'sqlite' is the file in the state folder; choose another name")
        for name in backends.keys() & {"redis", "postgres"}:
            if backends[name].kind != name:
                raise ValueError(f"{name!r} has an address of {backends[name].kind}")
        return backends

    @field_validator("collections")
    @classmethod
    def _leave_the_default(
        cls, collections: dict[str, MemoryCollection]
    ) -> dict[str, MemoryCollection]:
        if "default" in collections:
            raise ValueError("'default' is the one in the state folder; choose another name")
        return collections


class WebhookSettings(Strict):
    """How addresses are told of the ends of runs. Without a secret none is."""

    secret: Secret = ""
    allowed_hosts: tuple[str, ...] = ()
    retry_after: tuple[Seconds, ...] | None = None

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, secret: str) -> str:
        if secret and len(_decoded(secret)) < _SHORTEST_KEY:
            raise ValueError(
                f"expected whsec_ and the base64 of {_SHORTEST_KEY} bytes or more, as "
                "`echo whsec_$(openssl rand -base64 32)` gives it"
            )
        return secret


def _decoded(secret: str) -> bytes:
    try:
        return b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return b""


class UsageSettings(Strict):
    """The record of what calls used."""

    keep_days: Count = 400


class IngestionSettings(Strict):
    """Ingestions that go on behind the caller's back. `tenant_bytes`: at most so many of the
    bytes that wait are one tenant's. `wait_seconds`: how long what is away is waited for."""

    concurrency: Annotated[Count, Field(le=64)] = 2
    spool_bytes: Large = 1 << 30
    tenant_bytes: Large | None = None
    wait_seconds: Seconds = 86_400.0
    keep_days: Count = 7


class RuntimeSpec(Strict):
    api: Api = Api()
    defaults: Defaults = Defaults()
    services: Services = Services()
    tools: ToolSettings = ToolSettings()
    limits: RunLimits = RunLimits()
    runs: RunSettings = RunSettings()
    redis: Redis = Redis()
    memory: MemorySettings = MemorySettings()
    usage: UsageSettings = UsageSettings()
    webhooks: WebhookSettings = WebhookSettings()
    ingestion: IngestionSettings = IngestionSettings()
    peers: tuple[str, ...] = ()
    observability: dict[str, object] = {}  # noqa: RUF012


class RuntimeConfig(Manifest):
    later: ClassVar[Sequence[Later]] = (
        Later("spec.peers", "peers are not part of this version; remove the key"),
        Later(
            "spec.observability",
            "is not read from here: set OTEL_EXPORTER_OTLP_ENDPOINT to export traces and metrics",
        ),
    )

    kind: Literal["RuntimeConfig"]
    spec: RuntimeSpec = RuntimeSpec()

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        spelling.named("spec.services.*", "address")
        spelling.rename("spec.api", {"http_port": "port"})


def _loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
