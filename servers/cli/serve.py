"""`python -m servers [SERVICE...]`: gRPC alone, without Envoy; all services or some of them.

A service that is not named is dialled at the address that the configuration gives it.
"""

from typing import Annotated

import typer

from servers.cli.app import STATE, ConfigDir, GrpcPort, LogForm, LogLevel, StateDir, guarded
from servers.cli.choices import LogFormat, Service
from servers.cli.settings import Options, config_dir

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.command()
def serve(
    services: Annotated[
        list[Service] | None, typer.Argument(help="The services to run here; none: all.")
    ] = None,
    config: ConfigDir = None,
    state: StateDir = STATE,
    grpc_port: GrpcPort = None,
    log_format: LogForm = LogFormat.TEXT,
    log_level: LogLevel = "info",
) -> None:
    """Serve services of the mesh over gRPC until a signal comes."""
    from servers.cli.up import run

    options = Options(
        config_dir(config),
        state,
        grpc_port=grpc_port,
        envoy=False,
        hello=False,
        log_format=log_format,
        log_level=log_level,
        services=tuple(service.value for service in services or ()),
    )
    raise typer.Exit(run(options))


def main() -> int:
    return guarded(app)
