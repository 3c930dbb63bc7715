"""How well pipelines find the documents that answer questions."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1.rag_service_pb2_grpc import RagServiceStub

from servers.cli import rag_plot
from servers.cli.choices import Output
from servers.cli.client import connected
from servers.cli.output import dump
from servers.cli.paging import paged
from servers.cli.rag_measures import Answered, Question, questions_of, recalls, scores, some_of
from servers.kernel.errors import InvalidInput
from servers.kernel.explain import nearest

if TYPE_CHECKING:
    from rich.table import Table

_PASSAGES = 50  # asked for: several may be of one document
_AT_ONCE = 8

Results = Mapping[str, Sequence[Answered]]  # by pipeline


async def evaluate(
    address: str, pipelines: Sequence[str], file: Path, form: Output, plot: Path | None
) -> None:
    if plot is not None:
        rag_plot.check(plot)  # says what is wrong before anything is asked
    questions = await asyncio.to_thread(_read, file)
    found: dict[str, Sequence[Answered]] = {}
    async with connected(address) as channel:
        stub = RagServiceStub(channel)
        for pipeline in dict.fromkeys(pipelines):
            _check_known(file, pipeline, questions, await _documents(stub, pipeline))
        for pipeline in dict.fromkeys(pipelines):
            found[pipeline] = await _answers(stub, pipeline, questions)
    _show(found, len(questions), form)
    if plot is not None:
        curves = {pipeline: recalls(answered) for pipeline, answered in found.items()}
        await asyncio.to_thread(rag_plot.write, plot, curves, f"{len(questions)} questions")


def _read(file: Path) -> list[Question]:
    try:
        return questions_of(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: it is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    except InvalidInput as wrong:
        raise InvalidInput(f"{file}: {wrong.message}") from None


async def _documents(stub: RagServiceStub, pipeline: str) -> set[str]:
    request = pb.ListDocumentsRequest(pipeline=pipeline)
    return {each.id async for each in paged(stub.ListDocuments, request, "documents")}


def _check_known(file: Path, pipeline: str, questions: Sequence[Question], known: set[str]) -> None:
    """A document that isn't there can't be found: the measures would blame the pipeline."""
    names = sorted(known)
    faults = [
        f"line {each.line}: the pipeline {pipeline!r} has no document {name!r}"
        + nearest(name, names)
        for each in questions
        for name in sorted(each.relevant - known)
    ]
    if faults:
        fix = f"take it in first (astromesh rag ingest), or correct the id (rag list -p {pipeline})"
        raise InvalidInput(f"{file}: {some_of(faults)}; {fix}")


async def _answers(
    stub: RagServiceStub, pipeline: str, questions: Sequence[Question]
) -> list[Answered]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def ask(question: Question) -> Answered:
        request = pb.QueryRequest(pipeline=pipeline, query=question.query, top_k=_PASSAGES)
        async with free:
            answer = await stub.Query(request)
        ranked = list(dict.fromkeys(each.document for each in answer.passages))
        return Answered(ranked, question.relevant)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(each)) for each in questions]
    return [task.result() for task in tasks]


def _show(found: Results, count: int, form: Output) -> None:
    measured = {pipeline: scores(answered) for pipeline, answered in found.items()}
    if form is not Output.TABLE:
        tree = {
            pipeline: {**values, "recall_by_k": recalls(found[pipeline])}
            for pipeline, values in measured.items()
        }
        dump({"questions": count, "pipelines": tree}, form)
        return
    from rich.console import Console

    Console().print(_table(measured, count))


def _table(measured: Mapping[str, Mapping[str, float]], count: int) -> "Table":
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", title=f"{count} questions")
    table.add_column("MEASURE", no_wrap=True)
    for pipeline in measured:
        table.add_column(Text(pipeline), justify="right", overflow="fold", min_width=5)
        table.add_column("", width=max(4, 40 // len(measured) - 4))
    (first, *_) = measured.values()
    for name in first:
        values = [each[name] for each in measured.values()]
        cells: list[Text | Bar] = []
        for value in values:
            style = "bold" if len(values) > 1 and value == max(values) else ""
            cells += [Text(f"{value:.3f}", style), Bar(1.0, 0.0, value)]
        table.add_row(name, *cells)
    return table
