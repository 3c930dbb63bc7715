"""`astromesh principals`: hand out and forget what a mesh has of a person."""

from typing import Annotated

import typer

from servers.cli.options import HERE, Address, done

principals = typer.Typer(
    help="Hand out, and forget, all that is kept of one who asked.", no_args_is_help=True
)

_Principal = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Who asked.")]
_Memory = Annotated[
    str,
    typer.Option("--memory-address", help="Where memory is, if in a process of its own."),
]


@principals.command()
def export(principal: _Principal, address: Address = HERE, memory: _Memory = "") -> None:
    """Hand out what is remembered of one who asked, and his runs with all their events.

    A JSON object in each line: {"record": ...}, {"run": ...} or {"event": ...}.
    """
    from servers.cli.forgetting import export_principal

    done(export_principal(address, memory or address, principal))


@principals.command()
def erase(
    principal: _Principal,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before.")] = False,
    address: Address = HERE,
    memory: _Memory = "",
) -> None:
    """Forget what is remembered of one who asked, and his runs: those that go on are cancelled."""
    from servers.cli.forgetting import erase_principal

    if not yes:
        typer.confirm(
            f"Cancel all runs of {principal!r}, and forget them and all that is remembered of him?",
            abort=True,
        )
    done(erase_principal(address, memory or address, principal))
