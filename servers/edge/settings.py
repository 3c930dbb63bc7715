"""What can be said about the public port. The template `envoy/envoy.yaml.j2` uses all of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jinja2

# "edge": only what no service has seen, and so has not logged.
AccessLog = Literal["none", "edge", "all"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Port 0 means one that is free. Sizes are in bytes, times in seconds."""

    http_port: int = 8080
    grpc_ports: tuple[int, ...] = (50051,)  # replicas of the mesh on 127.0.0.1
    admin_port: int = 0
    access_log: AccessLog = "edge"
    concurrency: int = 1  # Envoy's worker threads
    max_request_bytes: int = 4 * 1024 * 1024  # REST bodies; the gRPC server has its own limit
    max_response_bytes: int = 64 * 1024 * 1024  # of one REST answer that is not a stream
    buffer_bytes: int = 256 * 1024  # per connection, for readers slower than their stream
    max_connections: int = 8192
    stream_idle_seconds: int = 3600  # silence of both sides after which a call is given up
    body_idle_seconds: int = 60  # silence in the middle of a REST request's body
    drain_seconds: float = 5.0  # what calls in flight get when the edge closes
    template: Path = _ROOT / "envoy" / "envoy.yaml.j2"
    descriptors: Path = _ROOT / "gen" / "astromesh.binpb"


def rendered(settings: EdgeSettings) -> str:
    """Envoy's whole configuration."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(settings.template.read_text())
    values = asdict(settings) | {"descriptors": str(settings.descriptors)}
    return template.render(values)
