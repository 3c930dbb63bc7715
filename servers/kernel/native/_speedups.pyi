from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from servers.kernel.native.bpe import Bpe as Bpe
from servers.kernel.native.values import Kind, T

def rank(query: ArrayLike, rows: ArrayLike, k: int) -> list[tuple[int, float]]: ...
def pii_scan(
    text: str, begin: int = 0, final: bool = True, kinds: int = ...
) -> tuple[list[tuple[int, int, int]], int]: ...
def recursive_chunks(
    text: str,
    size: int,
    overlap: int = 0,
    separators: Sequence[str] = ...,
    keep: str = "start",
    strip: bool = True,
) -> list[tuple[tuple[int, int], ...]]: ...
def sentence_spans(text: str) -> list[tuple[int, int]]: ...
def sentence_chunks(text: str, size: int, overlap: int = 0) -> list[tuple[int, int]]: ...
def top_k(
    queries: ArrayLike, rows: ArrayLike, k: int, metric: str = "cosine", threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def code_top_k(
    queries: ArrayLike,
    codes: ArrayLike,
    scales: ArrayLike,
    squares: ArrayLike,
    sums: ArrayLike,
    k: int,
    metric: str = "cosine",
    threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def rescore(
    queries: ArrayLike, rows: ArrayLike, candidates: ArrayLike, k: int, metric: str = "cosine"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def mmr(relevance: ArrayLike, rows: ArrayLike, k: int, trade: float = 0.5) -> list[int]: ...
def max_sim(query: ArrayLike, rows: ArrayLike) -> NDArray[np.float32]: ...
def neighbours(rows: ArrayLike) -> list[float]: ...
def recursive_values(
    kind: Kind[T],
    text: str,
    size: int,
    overlap: int = 0,
    separators: Sequence[str] = ...,
    keep: str = "start",
    strip: bool = True,
) -> list[T]: ...
def sentence_values(kind: Kind[T], text: str, size: int, overlap: int = 0) -> list[T]: ...
def fixed_values(kind: Kind[T], text: str, size: int, overlap: int = 0) -> list[T]: ...
