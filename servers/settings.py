"""What the command line and the environment say about one process of the mesh."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servers.kernel.errors import InvalidInput

CONFIG_DIR = "ASTROMESH_CONFIG_DIR"
STATE_DIR = "ASTROMESH_STATE_DIR"
HTTP_PORT = "ASTROMESH_HTTP_PORT"
GRPC_PORT = "ASTROMESH_GRPC_PORT"


@dataclass(frozen=True, slots=True)
class Settings:
    """Ports that nobody named are None: the RuntimeConfig may name them."""

    config_dir: Path = Path("config")
    state_dir: Path = Path(".state")
    http_port: int | None = None
    grpc_port: int | None = None


def settings_from(
    env: Mapping[str, str],
    *,
    config_dir: Path | None = None,
    state_dir: Path | None = None,
    http_port: int | None = None,
    grpc_port: int | None = None,
) -> Settings:
    """The command line's word where there is one, else the environment's.

    Raises InvalidInput that names the variable.
    """
    usual = Settings()
    return Settings(
        config_dir or Path(env.get(CONFIG_DIR) or usual.config_dir),
        state_dir or Path(env.get(STATE_DIR) or usual.state_dir),
        _port(env, HTTP_PORT) if http_port is None else http_port,
        _port(env, GRPC_PORT) if grpc_port is None else grpc_port,
    )


def _port(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) > 65535:
        raise InvalidInput(f"{name} is {text!r}; expected a port, 0 to 65535", variable=name)
    return int(text)
