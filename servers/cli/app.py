"""The commands and their options. What they do is imported when they run: help comes at once."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from servers.cli import failures
from servers.cli.choices import Drawn, LogFormat, Output
from servers.cli.memory_commands import memory
from servers.cli.options import HERE, Address, Form, Picture, PictureFile, done
from servers.cli.principal_commands import principals
from servers.cli.provider_commands import providers
from servers.cli.rag_commands import rag
from servers.cli.run_commands import runs
from servers.cli.spending_commands import spending
from servers.cli.text_commands import texts
from servers.kernel.errors import AstromeshError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich's help takes longer to import than to read
    context_settings={"help_option_names": ["-h", "--help"]},
)
agents = typer.Typer(help="Declare, change and look at agents.", no_args_is_help=True)
tools = typer.Typer(help="Look at tools and call them.", no_args_is_help=True)
app.add_typer(agents, name="agents")
app.add_typer(runs, name="runs")
app.add_typer(tools, name="tools")
app.add_typer(providers, name="providers")
app.add_typer(rag, name="rag")
app.add_typer(memory, name="memory")
app.add_typer(principals, name="principals")
app.add_typer(spending)  # usage, budgets
app.add_typer(texts)  # embed, rerank

ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="ASTROMESH_CONFIG_DIR", help="Folder with agents/, providers.yaml, ..."
    ),
]
StateDir = Annotated[
    Path,
    typer.Option("--state", envvar="ASTROMESH_STATE_DIR", help="Folder for what must last."),
]
HttpPort = Annotated[
    int | None,
    typer.Option(
        envvar="ASTROMESH_HTTP_PORT", min=0, max=65535, help="Port of REST and SSE; usually 8080."
    ),
]
GrpcPort = Annotated[
    int | None,
    typer.Option(
        envvar="ASTROMESH_GRPC_PORT", min=0, max=65535, help="Port of gRPC; usually 50051."
    ),
]
LogForm = Annotated[
    LogFormat, typer.Option("--log-format", envvar="ASTROMESH_LOG_FORMAT", help="How to log.")
]
LogLevel = Annotated[
    str,
    typer.Option(envvar="ASTROMESH_LOG_LEVEL", help="debug, info, warning or error."),
]
AgentName = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")]

STATE = Path(".state")


def main() -> None:
    """Run the command line and exit with its code (see `failures`)."""
    sys.exit(guarded(app))


def guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except AstromeshError as error:
        return failures.tell(error)
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        return 0
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"astromesh {version('astromesh-grpc')}")
        raise typer.Exit


@app.callback()
def astromesh(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Run declarative AI agents, and talk to them."""


@app.command()
def up(
    config: ConfigDir = None,
    state: StateDir = STATE,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    envoy: Annotated[bool, typer.Option("--envoy/--no-envoy", help="Serve REST and SSE.")] = True,
    hello: Annotated[
        bool, typer.Option("--hello/--no-hello", help="Ask the assistant a question at first.")
    ] = True,
    log_format: LogForm = LogFormat.TEXT,
    log_level: LogLevel = "info",
) -> None:
    """Start a mesh here, with Envoy in front of it. Ctrl-C stops everything."""
    from servers.cli.settings import Options, config_dir
    from servers.cli.up import run

    options = Options(
        config_dir(config), state, http_port, grpc_port, envoy, hello, log_format, log_level
    )
    raise typer.Exit(run(options))


@app.command("run")
def run_agent(
    agent: AgentName,
    query: Annotated[str, typer.Argument(help='What to do or answer; "-" reads standard input.')],
    session: Annotated[str, typer.Option(help="The conversation to go on with.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print every event as a JSON line.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds the whole run may take.")
    ] = None,
    address: Address = HERE,
) -> None:
    """Run an agent and show its answer as it comes."""
    from servers.cli.talk import ask

    text = sys.stdin.read() if query == "-" else query
    raise typer.Exit(done(ask(address, agent, text, session, json=json, seconds=timeout)))


@app.command()
def chat(
    agent: AgentName,
    session: Annotated[str, typer.Option(help="The conversation to go on with.")] = "",
    address: Address = HERE,
) -> None:
    """Talk with an agent, line by line. Ctrl-C stops an answer, Ctrl-D ends."""
    from servers.cli.talk import converse

    raise typer.Exit(converse(address, agent, session))


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="YAML files, or folders.")],
) -> None:
    """Check configuration files, without a mesh."""
    from servers.cli.validate import validate as check

    raise typer.Exit(check(paths))


@app.command()
def models(address: Address = HERE, output: Form = Output.TABLE) -> None:
    """List the models and what they cost."""
    from servers.cli.resources import list_models

    done(list_models(address, output))


@app.command()
def doctor(
    config: ConfigDir = None,
    state: StateDir = STATE,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
) -> None:
    """Say what is missing on this machine, and how to get it."""
    from servers.cli.doctor import examine
    from servers.cli.settings import config_dir

    raise typer.Exit(examine(config_dir(config), state, http_port, grpc_port))


@agents.command("list")
def agents_list(address: Address = HERE, output: Form = Output.TABLE) -> None:
    """List the agents, those that can't run too."""
    from servers.cli.resources import list_agents

    done(list_agents(address, output))


@agents.command("get")
def agents_get(agent: AgentName, address: Address = HERE, output: Form = Output.YAML) -> None:
    """Show an agent's declaration. Secrets are shown as ***."""
    from servers.cli.resources import get_agent

    done(get_agent(address, agent, output))


@agents.command("graph")
def agents_graph(
    agent: AgentName,
    form: Picture = Drawn.TREE,
    file: PictureFile = None,
    address: Address = HERE,
) -> None:
    """Show what an agent may do: its models, tools, sub-agents and stages."""
    from servers.cli.graphs import draw_agent

    done(draw_agent(address, agent, form, file))


@agents.command("apply")
def agents_apply(
    file: Annotated[
        list[Path], typer.Option("--file", "-f", help='YAML files; "-" reads standard input.')
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only.")] = False,
    address: Address = HERE,
) -> None:
    """Create agents, or bring them to what the files say."""
    from servers.cli.apply import apply

    done(apply(address, file, dry_run))


@agents.command("delete")
def agents_delete(agent: AgentName, address: Address = HERE) -> None:
    """Forget an agent. Its runs stay."""
    from servers.cli.resources import delete_agent

    done(delete_agent(address, agent))


@tools.command("list")
def tools_list(address: Address = HERE, output: Form = Output.TABLE) -> None:
    """List the tools."""
    from servers.cli.resources import list_tools

    done(list_tools(address, output))


@tools.command("call")
def tools_call(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool's name.")],
    arguments: Annotated[str, typer.Argument(help="The arguments, as a JSON object.")] = "{}",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Call a tool."""
    from servers.cli.resources import call_tool

    raise typer.Exit(done(call_tool(address, tool, arguments, output)))
