"""`astromesh providers`: how the providers are, and their breakers by hand."""

from typing import Annotated

import typer

from servers.cli.choices import Output
from servers.cli.options import HERE, Address, Form, done

providers = typer.Typer(help="Look at providers, open and close breakers.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's name.")]
_Model = Annotated[str, typer.Option(help="Only this model's breaker.")]


@providers.command("list")
def providers_list(address: Address = HERE, output: Form = Output.TABLE) -> None:
    """List the providers: health, latency, calls at work and breakers."""
    from servers.cli.providers import list_providers

    done(list_providers(address, output))


@providers.command("open")
def providers_open(
    provider: _Name, model: _Model = "", address: Address = HERE, output: Form = Output.TABLE
) -> None:
    """Open a breaker by hand: the model gets no calls until it is closed again."""
    from servers.cli.providers import update_breaker

    done(update_breaker(address, provider, model, "OPEN", output))


@providers.command("close")
def providers_close(
    provider: _Name, model: _Model = "", address: Address = HERE, output: Form = Output.TABLE
) -> None:
    """Close a breaker, and forget the failures."""
    from servers.cli.providers import update_breaker

    done(update_breaker(address, provider, model, "CLOSED", output))
