"""What commands share: options, and how their work is run."""

from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from servers.cli.choices import Output

T = TypeVar("T")

HERE = "127.0.0.1:50051"

Address = Annotated[
    str,
    typer.Option(envvar="ASTROMESH_ADDRESS", help="Where the mesh listens for gRPC."),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]


def done(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)
