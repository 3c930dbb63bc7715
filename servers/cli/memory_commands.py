"""`astromesh memory`: what agents remember, shown, added to and forgotten."""

from typing import Annotated

import typer

from servers.cli.choices import EpisodeKind, EpisodeResult, KeptFor, Output
from servers.cli.options import HERE, Address, Form, done

memory = typer.Typer(help="Look at what agents remember, and forget it.", no_args_is_help=True)

_Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")]
_Session = Annotated[str, typer.Argument(metavar="SESSION", help="The conversation.")]
_Principal = Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Who asked.")]
_Backend = Annotated[str, typer.Option(help="Where it is kept; otherwise wherever it may be.")]
_Collection = Annotated[str, typer.Option(help="Where; otherwise where the agent says.")]
_Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before.")]


@memory.command()
def sessions(
    agent: _Agent, limit: _Limit = 100, address: Address = HERE, output: Form = Output.TABLE
) -> None:
    """List the conversations of an agent."""
    from servers.cli.memory import list_sessions

    done(list_sessions(address, agent, limit, output))


@memory.command()
def history(
    agent: _Agent,
    session: _Session,
    backend: _Backend = "",
    limit: _Limit = 1000,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Show the turns of a conversation, oldest first."""
    from servers.cli.memory import show_history

    done(show_history(address, agent, session, backend, limit, output))


@memory.command()
def clear(
    agent: _Agent,
    session: _Session,
    backend: _Backend = "",
    address: Address = HERE,
) -> None:
    """Forget a conversation, with its summary."""
    from servers.cli.memory import clear

    done(clear(address, agent, session, backend))


@memory.command()
def export(principal: _Principal, address: Address = HERE, output: Form = Output.JSON) -> None:
    """Hand out all that is remembered of one who asked."""
    from servers.cli.memory import export

    done(export(address, principal, output))


@memory.command()
def erase(principal: _Principal, yes: _Yes = False, address: Address = HERE) -> None:
    """Forget all that is remembered of one who asked."""
    from servers.cli.memory import erase

    if not yes:
        typer.confirm(f"Forget all that is remembered of {principal!r}?", abort=True)
    done(erase(address, principal))


@memory.command()
def episodes(
    agent: _Agent,
    session: Annotated[str, typer.Option(help="Only of this session.")] = "",
    run: Annotated[str, typer.Option(help="Only of this run.")] = "",
    kind: Annotated[
        list[EpisodeKind] | None, typer.Option("--type", help="Only of this type; repeatable.")
    ] = None,
    outcome: Annotated[
        list[EpisodeResult] | None, typer.Option(help="Only with this outcome; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="Only of this name, such as a tool's.")] = "",
    principal: Annotated[str, typer.Option(help="Only of one who asked.")] = "",
    since: Annotated[str, typer.Option(help="From then on: 7d, 24h, 2026-11-24, ...")] = "",
    until: Annotated[str, typer.Option(help="Until then, not included.")] = "",
    backend: _Backend = "",
    limit: _Limit = 50,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """List what happened to an agent, newest first: runs, tool calls, feedback."""
    from servers.cli.memory import Wanted, list_episodes

    kinds, outcomes = tuple(kind or ()), tuple(outcome or ())
    wanted = Wanted(session, run, kinds, outcomes, name, principal, since, until, backend)
    done(list_episodes(address, agent, wanted, limit, output))


@memory.command()
def feedback(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    comment: Annotated[str, typer.Argument(help="What you think of it.")] = "",
    rating: Annotated[
        float | None, typer.Option(min=0, max=1, help="0: useless, 1: just right.")
    ] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Say what you think of a run: its agent remembers it."""
    from servers.cli.memory import give_feedback

    done(give_feedback(address, run, comment, rating, output))


@memory.command()
def remember(
    agent: _Agent,
    text: Annotated[str, typer.Argument(help="What to remember.")],
    scope: Annotated[KeptFor, typer.Option(help="Who finds it again.")] = KeptFor.PRINCIPAL,
    session: Annotated[str, typer.Option(help="The session it is of.")] = "",
    meta: Annotated[list[str] | None, typer.Option(help="KEY=VALUE to filter by.")] = None,
    ttl: Annotated[float | None, typer.Option(min=0, help="Seconds until it is forgotten.")] = None,
    collection: _Collection = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Have an agent remember a text, to be found again by what it means."""
    from servers.cli.memories import remember

    kept = scope.value, session, meta or [], ttl, collection
    done(remember(address, agent, text, *kept, output))


@memory.command()
def recall(
    agent: _Agent,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="The least similarity.")
    ] = None,
    session: Annotated[str, typer.Option(help="Those of this session, too.")] = "",
    where: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE that its metadata has.")
    ] = None,
    collection: _Collection = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Find what an agent remembers by what it means."""
    from servers.cli.memories import recall

    asked = top_k, threshold, session, where or [], collection
    done(recall(address, agent, query, *asked, output))


@memory.command()
def forget(
    agent: _Agent,
    memory_id: Annotated[
        str, typer.Argument(metavar="MEMORY", help="Its id.", show_default=False)
    ] = "",
    session: Annotated[str, typer.Option(help="All of this session.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that you may see.")] = False,
    collection: _Collection = "",
    yes: _Yes = False,
    address: Address = HERE,
) -> None:
    """Forget a memory, those of a session, or all."""
    from servers.cli.memories import forget

    if not (memory_id or session or everything):
        raise typer.BadParameter("say which: the id of a MEMORY, --session, or --all")
    if everything and not yes:
        typer.confirm(f"Forget all memories of {agent!r} that you may see?", abort=True)
    done(forget(address, agent, memory_id, session, everything, collection))
