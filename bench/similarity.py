"""How fast is `rank`, next to numpy, to faiss and to reading the memory at all?

All variants are interleaved in one run, on one thread, and the fastest of the rounds counts.
`read` is numpy's float32 maximum over the matrix: the speed of memory as one thread sees it.
`numpy` is the usual three lines (product, lengths, argpartition); faiss' IndexFlatIP, shown
where it is installed, only takes the product: it needs rows that were normalised before.

    python bench/similarity.py [--rounds 15]
"""

import argparse
import importlib
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from servers.kernel import native

K = 10
SHAPES = [(2_000, 384), (20_000, 384), (200_000, 384), (400_000, 128), (50_000, 1536)]

Floats = NDArray[np.float32]
Variant = Callable[[], object]


def numpy_rank(query: Floats, rows: Floats) -> NDArray[np.intp]:
    scores = rows @ query / (np.linalg.norm(query) * np.sqrt(np.einsum("ij,ij->i", rows, rows)))
    best = np.argpartition(-scores, K)[:K]
    return best[np.argsort(-scores[best])]


def variants(query: Floats, rows: Floats) -> dict[str, Variant]:
    found: dict[str, Variant] = {
        "read": lambda: rows.max(),
        "rank": lambda: native.rank(query, rows, K),
        "numpy": lambda: numpy_rank(query, rows),
    }
    try:
        faiss = importlib.import_module("faiss")  # no dependency of ours
    except ImportError:
        return found
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    found["faiss"] = lambda: index.search(query[None], K)
    return found


def fastest(candidates: dict[str, Variant], rounds: int) -> dict[str, float]:
    times = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    dice = np.random.default_rng(1)
    print(f"top {K} by cosine, float32, compiled: {native.COMPILED}")
    for count, size in SHAPES:
        rows = dice.standard_normal((count, size), dtype=np.float32)
        times = fastest(variants(dice.standard_normal(size, dtype=np.float32), rows), rounds)
        gigabytes = rows.nbytes / 1e9
        print(f"\n{count:,} x {size} ({gigabytes * 1000:,.0f} MB)")
        for name, seconds in times.items():
            print(
                f"  {name:6} {seconds * 1000:9.3f} ms {gigabytes / seconds:7.1f} GB/s"
                f"   {times['rank'] / seconds:5.2f} x rank's speed"
            )


if __name__ == "__main__":
    main()
