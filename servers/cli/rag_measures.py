"""Questions whose answers are known, and the measures of how well they were found."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from servers.kernel.errors import InvalidInput

DEPTH = 10  # documents that are looked at
_SHOWN_AT = (1, 3, 5, 10)
_MOST_TOLD = 5  # lines that are wrong
_FORM = '{"query": "a text", "relevant": ["a document\'s id"]}'


@dataclass(frozen=True, slots=True)
class Question:
    query: str
    relevant: frozenset[str]  # ids of documents
    line: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    ranked: Sequence[str]  # ids of documents, the best first
    relevant: frozenset[str]


def questions_of(text: str) -> list[Question]:
    """Raises InvalidInput that names the lines and what is wrong with each."""
    found, faults = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(_question(line, number))
            except ValueError as wrong:
                faults.append(f"line {number}: {wrong}")
    if faults:
        raise InvalidInput(some_of(faults))
    if not found:
        raise InvalidInput(f"there is no question in the file; each line is one: {_FORM}")
    return found


def some_of(faults: Sequence[str]) -> str:
    more = len(faults) - _MOST_TOLD
    told = [*faults[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
    return "; ".join(told)


def _question(line: str, number: int) -> Question:
    try:
        tree = json.loads(line)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error}); write {_FORM}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"expected an object, like {_FORM}")
    for key in ("query", "relevant"):
        if key not in tree:
            raise ValueError(f"{key!r} is missing; write {_FORM}")
    query, relevant = tree["query"], tree["relevant"]
    if not isinstance(query, str) or not query.strip():
        raise ValueError("'query' is not a text, or an empty one")
    if not isinstance(relevant, list) or not all(isinstance(each, str) for each in relevant):
        raise ValueError("'relevant' is not a list of ids of documents")
    if not relevant:
        raise ValueError("'relevant' names no document: such a question measures nothing")
    return Question(query, frozenset(relevant), number)


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


def recalls(answered: Sequence[Answered]) -> list[float]:
    """Means over all questions at 1, 2, ... documents."""
    return [
        _mean(recall(each.ranked, each.relevant, k) for each in answered)
        for k in range(1, DEPTH + 1)
    ]


def scores(answered: Sequence[Answered]) -> dict[str, float]:
    """The means over all questions."""
    curve = recalls(answered)
    return {
        **{f"recall@{k}": curve[k - 1] for k in _SHOWN_AT},
        f"nDCG@{DEPTH}": _mean(ndcg(each.ranked, each.relevant, DEPTH) for each in answered),
        "MRR": _mean(reciprocal_rank(each.ranked, each.relevant) for each in answered),
    }


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
