"""`astromesh rag`: documents taken in, found, listed, forgotten, and how well they are found."""

from pathlib import Path
from typing import Annotated

import typer

from servers.cli.choices import Output
from servers.cli.operations_commands import operations
from servers.cli.options import HERE, Address, Form, done

rag = typer.Typer(help="Take documents in and look things up in them.", no_args_is_help=True)

rag.add_typer(operations, name="operations")

_Pipeline = Annotated[str, typer.Option("--pipeline", "-p", help="The RAG pipeline.")]


@rag.command()
def ingest(
    folder: Annotated[
        Path, typer.Argument(exists=True, metavar="PATH", help="A folder, or one file.")
    ],
    pipeline: _Pipeline,
    acl: Annotated[
        list[str] | None, typer.Option(help="A principal who may see them; otherwise all may.")
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE to filter by, for all of them.")
    ] = None,
    uri: Annotated[
        str, typer.Option(help="Where the folder can be read, for citations: https://...")
    ] = "",
    background: Annotated[
        bool, typer.Option("--background", help="Only hand them over; print the operation's name.")
    ] = False,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Take in all documents of a folder. What is there already, unchanged, is passed over: after
    an interruption the same command goes on."""
    from servers.cli.folder import Folder
    from servers.cli.rag import ingest

    documents = Folder(folder, uri, meta or [], acl or [])
    if background:
        from servers.cli.operations import ingest_in_background

        raise typer.Exit(done(ingest_in_background(address, pipeline, documents, output)))
    raise typer.Exit(done(ingest(address, pipeline, documents, output)))


@rag.command()
def query(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    pipeline: _Pipeline,
    top_k: Annotated[int | None, typer.Option(min=1, help="At most so many passages.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="The least similarity.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE that a document's metadata has.")
    ] = None,
    mmr: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Let what repeats make room: how much relevance counts (lambda)."
        ),
    ] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Find passages."""
    from servers.cli.rag import query

    done(query(address, pipeline, text, top_k, threshold, where or [], mmr, output))


@rag.command("list")
def list_documents(
    pipeline: Annotated[
        str, typer.Option("--pipeline", "-p", help="Its documents; otherwise the pipelines.")
    ] = "",
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """List the pipelines, or the documents of one."""
    from servers.cli.rag import list_documents, list_pipelines

    done(list_documents(address, pipeline, output) if pipeline else list_pipelines(address, output))


@rag.command()
def delete(
    document: Annotated[str, typer.Argument(help="The document's id.")],
    pipeline: _Pipeline,
    address: Address = HERE,
) -> None:
    """Forget a document."""
    from servers.cli.rag import delete

    done(delete(address, pipeline, document))


@rag.command("eval")
def evaluate(
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help='JSON lines: {"query": ..., "relevant": [ids]}'
        ),
    ],
    pipeline: Annotated[
        list[str],
        typer.Option("--pipeline", "-p", help="The RAG pipeline; again, to compare several."),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw recall over k into this file: .svg or .png."),
    ] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Measure how well pipelines find what answers questions: recall, nDCG@10, MRR."""
    from servers.cli.rag_eval import evaluate

    done(evaluate(address, pipeline, questions, output, plot))
