"""What models answer to batches of texts: a vector or a score for each."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from servers.domain.chat import Usage
from servers.kernel.errors import NotReady
from servers.router.adapters.failures import garbage
from servers.router.adapters.texts.batches import estimated
from servers.router.adapters.triton.models import Model
from servers.router.adapters.triton.tensors import count
from servers.router.ports import Embedded, Reranked

_TOKENS = "num_input_tokens"  # as the vLLM backend calls it; models may have it or not


@dataclass(frozen=True, slots=True)
class Answer:
    """To one batch. `name` is the output that is wanted of it."""

    model: str
    name: str
    endpoint: str
    result: Any  # kserve.InferResult

    def rows(self, wanted: int) -> Any:
        """A row of numbers for each text."""
        found = self.result.as_numpy(self.name)
        if found is None or found.ndim == 0 or found.shape[0] != wanted:
            raise garbage(self.endpoint, f"answered {wanted} texts with other than {wanted} rows")
        if sum(size > 1 for size in found.shape[1:]) > 1:
            raise NotReady(
                f"output {self.name!r} of model {self.model!r} has several vectors a text (shape "
                f"{found.shape[1:]}): the model on Triton must pool them",
                reason="MODEL_CANNOT",
            )
        return np.ascontiguousarray(found.reshape(wanted, -1), dtype=np.float32)

    def usage(self, guess: Usage) -> Usage:
        if self.result.get_output(_TOKENS) is None:
            return guess
        return Usage(count(self.result, _TOKENS))


def counts(model: Model) -> tuple[str, ...]:
    """The output by which the model says how many tokens it read, if it has one."""
    return (_TOKENS,) if _TOKENS in model.outputs else ()


def embedded(answer: Answer, texts: Sequence[str]) -> Embedded:
    vectors = []
    for row in answer.rows(len(texts)):
        vector = array("f")
        vector.frombytes(row.tobytes())
        vectors.append(vector)
    return Embedded(tuple(vectors), answer.usage(estimated(texts)), answer.model)


def reranked(answer: Answer, query: str, documents: Sequence[str]) -> Reranked:
    rows = answer.rows(len(documents))
    if rows.shape[1] != 1:
        raise NotReady(
            f"output {answer.name!r} of model {answer.model!r} has {rows.shape[1]} numbers a "
            "document where one score is wanted",
            reason="MODEL_CANNOT",
        )
    scores = tuple(float(score) for score in rows[:, 0])
    return Reranked(scores, answer.usage(estimated(documents, query)), answer.model)


def all_of(found: Sequence[Reranked]) -> Reranked:
    """The scores of all batches, and what they used together."""
    usage = found[0].usage
    for each in found[1:]:
        usage += each.usage
    return Reranked(tuple(score for each in found for score in each.scores), usage, found[0].model)
