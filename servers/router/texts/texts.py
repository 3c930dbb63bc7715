"""What is checked of texts before models are asked about them, and of what comes back."""

from array import array
from math import isfinite, sqrt

import numpy as np

from servers.domain.embeddings import EmbedRequest, Ranked, RerankRequest, Vector
from servers.kernel.errors import InvalidInput, NotReady, Violation
from servers.router.ports import Embedded, ProviderDown, Reranked
from servers.router.routing.targets import Target

MOST_TEXTS = 2048
MOST_DOCUMENTS = 1000


def check_embed(request: EmbedRequest) -> None:
    """Raises InvalidInput that names the field."""
    if not request.texts:
        raise _wrong("texts", "there is no text to embed")
    if len(request.texts) > MOST_TEXTS:
        raise _wrong("texts", f"at most {MOST_TEXTS} texts at once, not {len(request.texts)}")
    for index, text in enumerate(request.texts):
        if not text.strip():
            raise _wrong(f"texts[{index}]", "the text is empty")
    if request.dimensions is not None and request.dimensions < 1:
        raise _wrong("dimensions", "vectors have at least one number")


def check_rerank(request: RerankRequest) -> None:
    """Raises InvalidInput that names the field."""
    if not request.query.strip():
        raise _wrong("query", "say what is looked for: the query is empty")
    if not request.documents:
        raise _wrong("documents", "there is no document to rank")
    if len(request.documents) > MOST_DOCUMENTS:
        raise _wrong(
            "documents", f"at most {MOST_DOCUMENTS} documents at once, not {len(request.documents)}"
        )
    if request.top_n is not None and request.top_n < 1:
        raise _wrong("top_n", "ask for at least one document, or leave it out for all")


def vectors_of(found: Embedded, request: EmbedRequest, target: Target) -> tuple[Vector, ...]:
    """As many as texts, as long as wanted, each of length 1."""
    if len(found.vectors) != len(request.texts):
        raise ProviderDown(
            f"{target.provider} gave {len(found.vectors)} vectors for {len(request.texts)} texts",
            reason="BAD_ANSWER",
        )
    wanted = request.dimensions or target.declared.dimensions or len(found.vectors[0])
    for vector in found.vectors:
        if len(vector) != wanted:
            raise NotReady(
                f"{target.provider}/{target.model} gives vectors of {len(vector)} numbers where "
                f"{wanted} are declared or asked for: say {len(vector)}, or no number",
                reason="DIMENSION_MISMATCH",
                provider=target.provider,
                expected=str(wanted),
                got=str(len(vector)),
            )
    return tuple(_normalised(vector, target) for vector in found.vectors)


def ranked_of(found: Reranked, request: RerankRequest, target: Target) -> tuple[Ranked, ...]:
    """Best first; equals keep their order."""
    scores = found.scores
    if len(scores) != len(request.documents) or not all(map(isfinite, scores)):
        raise ProviderDown(
            f"{target.provider} gave no score for each of {len(request.documents)} documents",
            reason="BAD_ANSWER",
        )
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return tuple(Ranked(index, scores[index]) for index in order[: request.top_n])


def _normalised(vector: Vector, target: Target) -> Vector:
    numbers = np.asarray(vector, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        length = sqrt(np.dot(numbers, numbers))
    if not length or not isfinite(length):
        raise ProviderDown(
            f"{target.provider}/{target.model} gave a vector without a direction",
            reason="BAD_ANSWER",
        )
    if abs(length - 1.0) < 1e-6:
        return array("f", vector)
    return array("f", (numbers / length).astype(np.float32).tobytes())


def _wrong(field: str, description: str) -> InvalidInput:
    return InvalidInput(
        f"{field}: {description}",
        reason="INVALID_REQUEST",
        violations=(Violation(field, description),),
    )
