"""`astromesh rag operations`: what is taken in behind the caller's back."""

from typing import Annotated

import typer

from servers.cli.choices import Output
from servers.cli.options import HERE, Address, Form, done

operations = typer.Typer(help="Ingestions that go on in the background.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="The operation's name, with or without operations/.")]


@operations.command("list")
def list_operations(
    only: Annotated[
        str, typer.Option("--filter", help='done = false AND pipeline = "NAME", or one of them.')
    ] = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """List them, newest first."""
    from servers.cli.operations import list_operations

    done(list_operations(address, only, output))


@operations.command()
def get(name: _Name, address: Address = HERE, output: Form = Output.TABLE) -> None:
    """Show how one stands."""
    from servers.cli.operations import get_operation

    done(get_operation(address, name, output))


@operations.command()
def wait(
    name: _Name,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds; otherwise to its end.")
    ] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Watch one to its end, and sum it up."""
    from servers.cli.operations import wait_operation

    raise typer.Exit(done(wait_operation(address, name, timeout, output)))


@operations.command()
def delete(name: _Name, address: Address = HERE) -> None:
    """Forget one that has ended. What it took in stays."""
    from servers.cli.operations import delete_operation

    done(delete_operation(address, name))


@operations.command()
def cancel(name: _Name, address: Address = HERE) -> None:
    """End one; the document in hand still comes to its end."""
    from servers.cli.operations import cancel_operation

    done(cancel_operation(address, name))
