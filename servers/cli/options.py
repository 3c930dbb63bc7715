"""What commands share: options, and how their work is run."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from servers.cli.choices import Drawn, Output

T = TypeVar("T")

HERE = "127.0.0.1:50051"

Address = Annotated[
    str,
    typer.Option(envvar="ASTROMESH_ADDRESS", help="Where the mesh listens for gRPC."),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]

Picture = Annotated[Drawn, typer.Option("--format", help="How to draw it.")]
PictureFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write it to this file.", dir_okay=False)
]


def done(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)
