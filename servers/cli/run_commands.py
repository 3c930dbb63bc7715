"""`astromesh runs`: look at runs, follow, answer, draw, cancel and forget them."""

from typing import Annotated

import typer

from servers.cli.choices import Drawn, Output, State
from servers.cli.options import HERE, Address, Form, Picture, PictureFile, done

runs = typer.Typer(
    help="Look at runs, follow, answer, cancel and forget them.", no_args_is_help=True
)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@runs.command("list")
def runs_list(
    agent: Annotated[str, typer.Option(help="Only runs of this agent.")] = "",
    session: Annotated[str, typer.Option(help="Only runs of this session.")] = "",
    state: Annotated[list[State] | None, typer.Option(help="Only runs in this state.")] = None,
    principal: Annotated[str, typer.Option(help="Only runs on behalf of this principal.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """List runs, newest first."""
    from servers.cli.runs import list_runs

    done(list_runs(address, agent, session, state or [], principal, limit, output))


@runs.command("get")
def runs_get(run: RunId, address: Address = HERE, output: Form = Output.TABLE) -> None:
    """Show a run."""
    from servers.cli.runs import get_run

    done(get_run(address, run, output))


@runs.command("events")
def runs_events(
    run: RunId,
    after: Annotated[int, typer.Option(min=0, help="Only events after this sequence.")] = 0,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Tell what a run did, and follow it to its end."""
    from servers.cli.runs import follow

    done(follow(address, run, after, output))


@runs.command("cancel")
def runs_cancel(
    run: RunId,
    reason: Annotated[str, typer.Option(help="Why, for the run's log.")] = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """End a run."""
    from servers.cli.runs import cancel_run

    done(cancel_run(address, run, reason, output))


@runs.command("delete")
def runs_delete(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="The run's id.", show_default=False)
    ] = "",
    principal: Annotated[str, typer.Option(help="All runs on behalf of this principal.")] = "",
    session: Annotated[str, typer.Option(help="All runs of this session.")] = "",
    agent: Annotated[str, typer.Option(help="All runs of this agent.")] = "",
    ended_before: Annotated[
        str, typer.Option(metavar="TIME", help="All that ended before: 7d, 24h, 2026-11-24, ...")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All runs.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel those that have not ended before.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before.")] = False,
    address: Address = HERE,
) -> None:
    """Forget a run, or all that fit what is said, with the runs of their sub-agents."""
    from servers.cli.forgetting import Which, delete_run, purge_runs

    which = Which(principal, session, agent, ended_before, everything)
    if bool(run) == which.says_anything:
        raise typer.BadParameter("say which: either the id of a RUN, or options such as --session")
    if run:
        if not yes:
            typer.confirm(f"Forget run {run!r}?", abort=True)
        done(delete_run(address, run, force))
    else:
        done(purge_runs(address, which, force, yes))


@runs.command("resume")
def runs_resume(
    run: RunId,
    approve: Annotated[bool, typer.Option("--approve", help="Let the call be made.")] = False,
    reject: Annotated[
        str | None, typer.Option(metavar="REASON", help="Don't; the model reads why.")
    ] = None,
    result: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the client's tool gave.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="The result says how that tool failed.")
    ] = False,
    call: Annotated[str, typer.Option(metavar="ID", help="Which call, where several wait.")] = "",
    arguments: Annotated[
        str, typer.Option(metavar="JSON", help="Approve with these arguments instead.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Until the run has ended or waits again.")
    ] = False,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Answer what a run waits for: --approve, --reject REASON or --result TEXT."""
    from servers.cli.answering import Answer, resume_run

    answer = Answer(approve, reject, result, failed, call, arguments)
    done(resume_run(address, run, answer, wait, output))


@runs.command("tree")
def runs_tree(
    run: RunId,
    form: Picture = Drawn.TREE,
    file: PictureFile = None,
    address: Address = HERE,
) -> None:
    """Show what a run and its sub-agents did, as a tree."""
    from servers.cli.graphs import draw_run

    done(draw_run(address, run, form, file))
