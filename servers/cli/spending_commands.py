"""`astromesh usage` and `astromesh budgets`."""

from typing import Annotated

import typer

from servers.cli.choices import Output
from servers.cli.options import HERE, Address, Form, done

spending = typer.Typer()


@spending.command()
def usage(
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="A row for each of these, e.g. model, agent, session, run, provider, hour, day, "
            "month; may be repeated."
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="From then on: 7d, 24h, 2026-11-24, ...")] = "",
    until: Annotated[str, typer.Option(help="Until then, not included.")] = "",
    agent: Annotated[str, typer.Option(help="Only calls of this agent.")] = "",
    model: Annotated[str, typer.Option(help="Only calls of this model.")] = "",
    provider: Annotated[str, typer.Option(help="Only calls at this provider.")] = "",
    session: Annotated[str, typer.Option(help="Only calls of this session.")] = "",
    run: Annotated[str, typer.Option(help="Only calls of this run and its sub-agents.")] = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Add up what calls of models used, and what they cost."""
    from servers.cli.spending import show_usage

    where = {
        "agent": agent,
        "model": model,
        "provider": provider,
        "session_id": session,
        "run_id": run,
    }
    done(show_usage(address, by or [], since, until, where, output))


@spending.command()
def budgets(
    budget: Annotated[
        str, typer.Argument(metavar="[BUDGET]", help="Only this one.", show_default=False)
    ] = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Show how far budgets are spent."""
    from servers.cli.spending import list_budgets

    done(list_budgets(address, budget, output))
