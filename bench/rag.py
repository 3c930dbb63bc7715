"""What taking documents in and finding them again costs over each store, and how well it finds.

    python -m bench.rag [--chunks 10000] [--rounds 10] [--only "faiss;pgvector"] [--once]

The documents and questions are those of `bench.known_item`: known-item search. The RAG service
is in this process, with the model of the mesh (MiniLM, int8, on the CPU); documents go the whole
way, from HTML to the acknowledged chunk. Beside it, in an environment of their own and with the
same model, chunks and kind of store: upstream's RAGPipeline (its FAISS is in memory only), and
LangChain's Chroma. They get the chunks already cut.

All sides take the same tenth of the documents in turns; ratios are taken within a round. "Model"
is the share of the time in which vectors were waited for; "of the model alone" is the speed next
to embedding the same chunks and doing nothing with them. Then 16 callers ask at a time, in turns.
Measures of what is found are those of `astromesh rag eval`.

With `--once` the model is asked once for each text, by the side that comes first: what is measured
is all the rest of the way, and a busy machine gets to 10,000 chunks in every store.
"""

import argparse
import asyncio
import logging
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import structlog
import uvloop

from bench.choosing import chosen
from bench.known_item import SEED, KnownItems, built
from bench.rag_sides import MODES, Ours, Remembering, Side, Slice, Took, sides, sliced
from bench.report import Spread, console, table, write
from servers.cli.rag_measures import Answered, Question, questions_of, scores
from servers.domain.rag import Document
from servers.router.adapters.pool import open_providers
from servers.router.ports import RouterSettings
from servers.router.service import ModelRouter

CALLERS = 16
ALONE = "the model alone"
_PASSAGES = 20  # asked for: several may be of one document
Taken = Mapping[str, Sequence[Took]]


def documents_of(known: KnownItems) -> list[Document]:
    paths = sorted(known.documents.rglob("*.html"))
    random.Random(SEED).shuffle(paths)
    return [
        Document(path.relative_to(known.documents).as_posix(), path.read_bytes()) for path in paths
    ]


def asked_of(known: KnownItems, slices: Sequence[Slice]) -> list[Question]:
    there = {each.id for of in slices for each in of.documents}
    return [each for each in questions_of(known.questions.read_text()) if each.relevant <= there]


async def ingested(by: Mapping[str, Side], slices: Sequence[Slice]) -> dict[str, list[Took]]:
    taken: defaultdict[str, list[Took]] = defaultdict(list)
    for of in slices:
        for name, side in by.items():
            taken[name].append(await side.ingest(of))
    return taken


async def waited(
    by: Mapping[str, Side], queries: Sequence[str], rounds: int
) -> dict[str, list[list[float]]]:
    took: defaultdict[str, list[list[float]]] = defaultdict(list)
    for number in range(rounds + 1):  # the first one is for warming up
        for name, side in by.items():
            found = await side.ask(queries, CALLERS)
            if number:
                took[name].append(found)
    return took


async def found_by(side: Ours, mode: str, questions: Sequence[Question]) -> dict[str, float]:
    answered = []
    for each in questions:
        passages = await side.find(mode, each.query, _PASSAGES)
        ranked = list(dict.fromkeys(passage.document for passage in passages))
        answered.append(Answered(ranked, each.relevant))
    return scores(answered)


def show_ingestion(taken: Taken, slices: Sequence[Slice], once: bool) -> None:
    rows = []
    for name, tooks in taken.items():
        pairs = zip(slices, tooks, strict=True)
        row = [name, Spread.of([len(s.chunks) / t.seconds for s, t in pairs]).told()]
        if not once:
            share = [t.embedding / t.seconds for t in tooks if t.embedding]
            alone = [a.seconds / t.seconds for a, t in zip(taken[ALONE], tooks, strict=True)]
            row += [Spread.of(share).told(2) if share else "", Spread.of(alone).told(2)]
        rows.append(row)
    count = sum(len(each.chunks) for each in slices)
    columns = ("", "chunks/s", "model's share", "of the model alone")
    table(f"taking in {count:,} chunks", columns[: len(rows[0])], rows)


def show_ratios(taken: Taken) -> None:
    rows = []
    for name, theirs in taken.items():
        who, _, store = name.partition(", ")
        if store in taken:
            pairs = zip(theirs, taken[store], strict=True)
            ratio = Spread.of([them.seconds / us.seconds for them, us in pairs])
            rows.append((store, who, ratio.told(2)))
    if rows:
        table("times as long as ours", ("store", "who", "takes"), rows)


def percentiles(rounds: Sequence[Sequence[float]]) -> dict[str, Spread]:
    """In ms, of each round."""
    cuts = [quantiles(each, n=100) for each in rounds]
    return {f"p{at}": Spread.of([each[at - 1] * 1000 for each in cuts]) for at in (50, 99)}


def show_waits(took: Mapping[str, Sequence[Sequence[float]]], count: int) -> None:
    rows = []
    for name, rounds in took.items():
        told = percentiles(rounds)
        rows.append((name, told["p50"].told(1), told["p99"].told(1)))
    table(f"{count} queries by {CALLERS} callers, ms", ("", "p50", "p99"), rows)


async def measured_modes(
    by: Mapping[str, Side], questions: Sequence[Question]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, side in by.items():
        for mode in MODES:
            if isinstance(side, Ours):
                found[f"{name}, {mode}"] = await found_by(side, mode, questions)
    rows = [
        (name, *(f"{each[key]:.3f}" for key in ("recall@10", "nDCG@10", "MRR")))
        for name, each in found.items()
    ]
    table(f"{len(questions)} known-item questions", ("", "recall@10", "nDCG@10", "MRR"), rows)
    return found


async def bench(chunks: int, rounds: int, most: int, only: str, once: bool) -> None:
    console.print(f"load {os.getloadavg()[0]:.1f} at the beginning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_providers(folder) as pool:
            router: Any = ModelRouter(RouterSettings(), pool, env={})
            router = Remembering(router) if once else router
            async with sides(router, folder) as every:
                names = chosen(only, ";", every) or every.keys()
                by = {name: side for name, side in every.items() if name in {*names, ALONE}}
                known = await asyncio.to_thread(built)
                slices = await asyncio.to_thread(sliced, documents_of(known), chunks, rounds)
                await measure(by, slices, asked_of(known, slices)[:most], once)


async def measure(
    by: Mapping[str, Side], slices: Sequence[Slice], questions: Sequence[Question], once: bool
) -> None:
    warm = Slice((), slices[0].chunks[:64])
    await by[ALONE].ingest(warm)
    taken = await ingested(by, slices)
    show_ingestion(taken, slices, once)
    show_ratios(taken)
    took = await waited(by, [each.query for each in questions], 3)
    show_waits(took, len(questions))
    found = await measured_modes(by, questions)
    kept: dict[str, Any] = {
        "chunks": [len(each.chunks) for each in slices],
        "ingestion": taken,
        "queries": {name: percentiles(rounds) for name, rounds in took.items()},
        "known-item": found,
        "load": os.getloadavg()[0],
    }
    write("rag-once" if once else "rag", kept)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rag", description=__doc__)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="sides, with ; between them")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--once", action="store_true", help="ask the model once for each text")
    options = parser.parse_args(arguments)
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    o = options
    uvloop.run(bench(o.chunks, o.rounds, o.questions, o.only, o.once))


if __name__ == "__main__":
    main()
