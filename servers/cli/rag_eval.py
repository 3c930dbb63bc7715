"""How well a pipeline finds the documents that answer questions."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1.rag_service_pb2_grpc import RagServiceStub

from servers.cli.choices import Output
from servers.cli.client import connected
from servers.kernel.errors import InvalidInput

_RECALL_AT = (1, 3, 5, 10)
_DEPTH = 10
_PASSAGES = 50  # asked for: several may be of one document


@dataclass(frozen=True, slots=True)
class Question:
    query: str
    relevant: frozenset[str]  # ids of documents


def questions_of(text: str) -> list[Question]:
    """Raises InvalidInput that names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
            query, relevant = tree["query"], tree["relevant"]
            if not isinstance(query, str) or not query or not isinstance(relevant, list):
                raise TypeError
            found.append(Question(query, frozenset(map(str, relevant))))
        except (ValueError, KeyError, TypeError):
            says = 'expected {"query": text, "relevant": [ids of documents]}'
            raise InvalidInput(f"line {number}: {says}") from None
        if not relevant:
            raise InvalidInput(f"line {number}: names no relevant document")
    if not found:
        raise InvalidInput("there is no question in the file")
    return found


def recall(ranked: Sequence[str], relevant: frozenset[str], k: int) -> float:
    """The share of the relevant ones among the first k."""
    return len(relevant.intersection(ranked[:k])) / len(relevant)


def ndcg(ranked: Sequence[str], relevant: frozenset[str], k: int) -> float:
    """Discounted gain, where a document is relevant or not, as a share of the best possible."""
    gain = sum(1 / math.log2(at + 2) for at, each in enumerate(ranked[:k]) if each in relevant)
    best = sum(1 / math.log2(at + 2) for at in range(min(k, len(relevant))))
    return gain / best


def reciprocal_rank(ranked: Sequence[str], relevant: frozenset[str]) -> float:
    """1 over the place of the first relevant one; 0 where there is none."""
    return next((1 / at for at, each in enumerate(ranked, 1) if each in relevant), 0.0)


def scores(rankings: Sequence[tuple[Sequence[str], frozenset[str]]]) -> dict[str, float]:
    """The means over all questions."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    found = {
        f"recall@{k}": mean([recall(ranked, relevant, k) for ranked, relevant in rankings])
        for k in _RECALL_AT
    }
    found[f"nDCG@{_DEPTH}"] = mean([ndcg(*each, _DEPTH) for each in rankings])
    found["MRR"] = mean([reciprocal_rank(*each) for each in rankings])
    return found


async def evaluate(address: str, pipeline: str, file: Path, form: Output) -> None:
    questions = questions_of(file.read_text(encoding="utf-8"))  # noqa: ASYNC240  # the command's own
    rankings = []
    async with connected(address) as channel:
        stub = RagServiceStub(channel)
        for question in questions:
            request = pb.QueryRequest(pipeline=pipeline, query=question.query, top_k=_PASSAGES)
            answer = await stub.Query(request)
            ranked = list(dict.fromkeys(each.document for each in answer.passages))
            rankings.append((ranked, question.relevant))
    _show(pipeline, len(questions), scores(rankings), form)


def _show(pipeline: str, count: int, found: dict[str, float], form: Output) -> None:
    if form is not Output.TABLE:
        tree: dict[str, Any] = {"pipeline": pipeline, "questions": count, **found}
        if form is Output.JSON:
            print(json.dumps(tree, indent=2))
        else:
            import yaml

            print(yaml.safe_dump(tree, sort_keys=False), end="")
        return
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, header_style="bold", title=f"{pipeline}, {count} questions"
    )
    for title in ("MEASURE", "VALUE", ""):
        table.add_column(title)
    for name, value in found.items():
        table.add_row(name, f"{value:.3f}", Bar(1.0, 0.0, value, width=30))
    Console().print(table)
