"""Takes folders of documents in, finds passages, and shows them."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astromesh.rag.v1 import document_pb2 as docs
from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1.rag_service_pb2_grpc import RagServiceStub
from astromesh.rag.v1.retrieval_pb2 import MaximalMarginalRelevance

from servers.cli.choices import Output
from servers.cli.client import connected
from servers.cli.failures import FAILED
from servers.cli.folder import Folder, files_of, tell_passed_over
from servers.cli.output import Columns, dump, local_time, show_all
from servers.cli.paging import paged
from servers.cli.pairs import wanted
from servers.cli.text import clean, counted
from servers.domain.rag import Document
from servers.kernel.chat_wire import json_to
from servers.kernel.errors import InvalidInput
from servers.rag.remote import messages_of

_SHOWN = 160  # characters of a passage
_OUTCOMES = {
    docs.INGEST_OUTCOME_CREATED: "created",
    docs.INGEST_OUTCOME_REPLACED: "replaced",
    docs.INGEST_OUTCOME_UNCHANGED: "unchanged",
    docs.INGEST_OUTCOME_FAILED: "failed",
}
_PASSAGES: Columns = {
    "SCORE": lambda found: f"{found.score:.4f}",
    "CITATION": lambda found: found.citation,
    "TEXT": lambda found: " ".join(found.text.split())[:_SHOWN],
}
_DOCUMENTS: Columns = {
    "ID": lambda document: document.id,
    "TITLE": lambda document: document.title,
    "CHUNKS": lambda document: document.chunks,
    "UPDATED": lambda document: local_time(document.update_time),
}
_PIPELINES: Columns = {
    "NAME": lambda pipeline: pipeline.name,
    "READY": lambda pipeline: pipeline.ready,
    "STORE": lambda pipeline: pipeline.backend,
    "CHUNKING": lambda pipeline: pipeline.chunking,
    "MODEL": lambda pipeline: pipeline.embedding_model,
    "CHUNKS": lambda pipeline: pipeline.chunks,
}


@dataclass(slots=True)
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)  # document, why

    def failed(self, name: str, why: str) -> None:
        self.outcomes["failed"] += 1
        self.faults.append((name, why))

    def add(self, told: pb.IngestDocumentsResponse) -> None:
        if told.outcome == docs.INGEST_OUTCOME_FAILED:
            self.failed(told.id, told.error_message)
            return
        self.outcomes[_OUTCOMES[told.outcome]] += 1
        self.chunks += told.chunks


async def ingest(address: str, pipeline: str, folder: Folder, form: Output) -> int:
    """Gives the exit code: not 0 where any document could not be taken in."""
    files = await files_of(folder)
    tally, begun = Tally(), time.monotonic()
    try:
        await _send(address, pipeline, folder, files, tally)
    except BaseException:  # Ctrl-C, or the mesh is gone
        _tell_faults(tally)
        if done := sum(tally.outcomes.values()):
            of = f"{done} of {counted(len(files), 'document')}"
            print(f"broken off after {of}; the same command goes on", file=sys.stderr)
        raise
    _summary(tally, time.monotonic() - begun, form)
    await tell_passed_over(folder, files)
    return FAILED if tally.faults else 0


async def _send(
    address: str, pipeline: str, folder: Folder, files: Sequence[Path], tally: Tally
) -> None:
    with progress(len(files)) as advance:

        async def documents() -> AsyncIterator[Document]:
            for path in files:
                try:
                    yield await asyncio.to_thread(folder.document, path)
                except (OSError, InvalidInput) as error:
                    tally.failed(str(path), str(error))
                    advance(str(path))

        async with connected(address) as channel:
            call = RagServiceStub(channel).IngestDocuments(messages_of(pipeline, documents()))
            async for told in call:
                tally.add(told)
                advance(told.id)


class progress:
    """A bar, where somebody watches."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), Remaining(), TextColumn("{task.fields[at]}"))
        self._bar = Progress(*columns, console=console, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("ingest", total=total, at="")

    def __enter__(self) -> "progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, at: str, steps: int = 1) -> None:
        from rich.markup import escape

        self._bar.update(self._task, advance=steps, at=escape(clean(at)[-60:]))


def fault(name: str, why: str) -> str:
    """Most messages of the mesh name the document."""
    return clean(why) if repr(name) in why else f"{clean(name)}: {clean(why)}"


def _tell_faults(tally: Tally) -> None:
    for name, why in tally.faults:
        print(f"error: {fault(name, why)}", file=sys.stderr)


def _summary(tally: Tally, seconds: float, form: Output) -> None:
    _tell_faults(tally)
    outcomes = {each: tally.outcomes[each] for each in _OUTCOMES.values()}
    if form is not Output.TABLE:
        failures = [{"document": name, "message": why} for name, why in tally.faults]
        dump(outcomes | {"chunks": tally.chunks, "seconds": seconds, "failures": failures}, form)
        return
    counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    print(f"{counted(sum(outcomes.values()), 'document')}: {counts}")
    print(f"{counted(tally.chunks, 'chunk')} in {seconds:.1f} s")


async def query(
    address: str,
    pipeline: str,
    text: str,
    top_k: int | None,
    threshold: float | None,
    where: Sequence[str],
    mmr: float | None,
    form: Output,
) -> None:
    request = pb.QueryRequest(
        pipeline=pipeline,
        query=text,
        top_k=top_k,
        similarity_threshold=threshold,
        filter=json_to(wanted(where)),
        mmr=None if mmr is None else MaximalMarginalRelevance(lambda_mult=mmr),
    )
    async with connected(address) as channel:
        answer = await RagServiceStub(channel).Query(request)
    show_all(answer.passages, _PASSAGES, form)


async def list_pipelines(address: str, form: Output) -> None:
    async with connected(address) as channel:
        answer = await RagServiceStub(channel).ListPipelines(pb.ListPipelinesRequest())
    show_all(answer.pipelines, _PIPELINES, form)
    if form is Output.TABLE:
        for each in answer.pipelines:
            if each.reason:
                print(f"{clean(each.name)}: {clean(each.reason)}")


async def list_documents(address: str, pipeline: str, form: Output) -> None:
    request = pb.ListDocumentsRequest(pipeline=pipeline)
    async with connected(address) as channel:
        ask = RagServiceStub(channel).ListDocuments
        found = [each async for each in paged(ask, request, "documents")]
    show_all(found, _DOCUMENTS, form)


async def delete(address: str, pipeline: str, document: str) -> None:
    request = pb.DeleteDocumentRequest(pipeline=pipeline, document=document)
    async with connected(address) as channel:
        answer = await RagServiceStub(channel).DeleteDocument(request)
    print(f"deleted {clean(document)} ({counted(answer.deleted_chunks, 'chunk')})")
