"""`astromesh embed` and `astromesh rerank`: the mesh's models for texts, by hand."""

import sys
from typing import Annotated

import typer

from servers.cli.choices import Output
from servers.cli.options import HERE, Address, Form, done

_Provider = Annotated[str, typer.Option(help="Who is asked; otherwise the embedded model is.")]
_Model = Annotated[str, typer.Option(help="Which of its models; otherwise its first.")]

texts = typer.Typer()


@texts.command()
def embed(
    text: Annotated[list[str], typer.Argument(help='"-" reads lines of standard input.')],
    provider: _Provider = "",
    model: _Model = "",
    query: Annotated[
        bool, typer.Option("--query", help="They are to find others, not to be found.")
    ] = False,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Numbers in each vector, for models that can choose.")
    ] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Make vectors of texts, in their order. JSON and YAML have all the numbers."""
    from servers.cli.passages import Asked, embed

    asked = Asked(address, provider, model, output)
    done(embed(asked, _lines(text), query, dimensions))


@texts.command()
def rerank(
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    documents: Annotated[list[str], typer.Argument(help='"-" reads lines of standard input.')],
    provider: _Provider = "",
    model: _Model = "",
    top_n: Annotated[int | None, typer.Option(min=1, help="Only so many of the best.")] = None,
    address: Address = HERE,
    output: Form = Output.TABLE,
) -> None:
    """Order documents by their relevance to a query."""
    from servers.cli.passages import Asked, rerank

    done(rerank(Asked(address, provider, model, output), query, _lines(documents), top_n))


def _lines(texts: list[str]) -> list[str]:
    if texts != ["-"]:
        return texts
    return [line for line in sys.stdin.read().splitlines() if line.strip()]
