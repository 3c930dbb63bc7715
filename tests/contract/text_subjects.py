"""What the contract suites of embedders and rerankers are given: one that is ready to be asked."""

from dataclasses import dataclass

from servers.router.ports import Embedder, Reranker


@dataclass(frozen=True)
class Embedding:
    embedder: Embedder
    model: str = "m"


@dataclass(frozen=True)
class Ranking:
    reranker: Reranker
    model: str = "m"
