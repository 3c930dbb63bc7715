"""What `astromesh up` was told, by its options and the environment."""

from dataclasses import dataclass
from pathlib import Path

from servers.cli.choices import LogFormat

_SHIPPED = Path(__file__).parents[2] / "config"


@dataclass(frozen=True, slots=True)
class Options:
    config_dir: Path
    state_dir: Path
    http_port: int | None = None  # None: what runtime.yaml says, else the usual one
    grpc_port: int | None = None
    envoy: bool = True
    hello: bool = True
    log_format: LogFormat = LogFormat.TEXT
    log_level: str = "info"
    services: tuple[str, ...] = ()  # those to run here, the rest is dialled; empty: all


def config_dir(said: Path | None) -> Path:
    """The folder that was named; else ./config, else the one that comes with the program."""
    if said is not None:
        return said
    return here if (here := Path("config")).is_dir() else _SHIPPED
