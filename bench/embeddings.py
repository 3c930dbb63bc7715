"""How much of ONNX Runtime's speed is left behind the router, and what dynamic batching does.

`direct` is what one would write oneself: batches of 32 texts in their order, each filled up to
its longest, `session.run`, the mean over the mask, length 1; with the same model and as many
threads. Its threads spin while they wait, as ONNX Runtime's do by default, which wastes a busy
machine's time; `direct, not spinning` has the router's setting, and `direct, by length` sorts
the texts, too. `router` is ModelRouter.embed in the same process. All take turns in every round.
CPU seconds are those of the whole process: they say more than the time where others work beside.

    python -m bench embeddings [--rounds 5] [--texts 64]
"""

import argparse
import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from bench.processes import ROOT
from bench.report import Spread, console, table, write
from servers.domain.embeddings import EmbedRequest
from servers.router.adapters.encoders.onnx_load import Loading, load
from servers.router.adapters.encoders.owner import open_encoders
from servers.router.adapters.encoders.packaged import ENDPOINT, WINDOW, packaged
from servers.router.adapters.encoders.worker import Bounds
from servers.router.adapters.http import open_http
from servers.router.adapters.local.process import open_local_model
from servers.router.adapters.pool import Means, Pool
from servers.router.ports import RouterSettings
from servers.router.service import ModelRouter

BATCH = Bounds().batch
CALLERS = 64
Embed = Callable[[Sequence[str]], Awaitable[object]]


@dataclass
class Direct:
    """The usual twenty lines around onnxruntime."""

    spinning: bool
    session: Any = field(init=False)
    tokenizer: Tokenizer = field(init=False)

    def __post_init__(self) -> None:
        folder, options = packaged(), ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        self.session = ort.InferenceSession(
            str(folder.model), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder.tokenizer))
        self.tokenizer.enable_truncation(WINDOW)
        self.tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(texts), BATCH):
            read = self.tokenizer.encode_batch(list(texts[start : start + BATCH]))
            ids = np.array([each.ids for each in read], np.int64)
            mask = np.array([each.attention_mask for each in read], np.int64)
            feeds = {
                "input_ids": ids,
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(ids),
            }
            (hidden,) = self.session.run(None, feeds)
            summed = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
            means = summed / mask.sum(axis=1, keepdims=True)
            rows.extend(means / np.linalg.norm(means, axis=1, keepdims=True))
        return rows

    def by_length(self, texts: Sequence[str]) -> list[Any]:
        return self.embed(sorted(texts, key=len))


MIXED, ALIKE = (4, 8, 12, 16, 24, 32, 48, 80), (24,)


def prose(number: int, lengths: Sequence[int] = MIXED) -> list[str]:
    """Pieces of this project's documents, of so many words each: always the same ones."""
    words = re.findall(r"[\w'-]+[.,;:]?", " ".join(p.read_text() for p in documents()))
    dice = random.Random(1)
    found = []
    for _ in range(number):
        length = dice.choice(lengths)
        start = dice.randrange(len(words) - length)
        found.append(" ".join(words[start : start + length]))
    return found


def documents() -> list[Path]:
    return sorted((ROOT / "docs").glob("*.md"))


@dataclass
class Taken:
    """Of each round."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


async def interleaved(
    variants: dict[str, Embed], texts: Sequence[str], rounds: int
) -> dict[str, Taken]:
    """A first round is for warming up."""
    taken = {name: Taken() for name in variants}
    for round in range(rounds + 1):
        for name, embed in variants.items():
            began, cpu = time.perf_counter(), time.process_time()
            await embed(texts)
            if round:
                taken[name].seconds.append(time.perf_counter() - began)
                taken[name].cpu.append(time.process_time() - cpu)
    return taken


def ratios(one: Sequence[float], other: Sequence[float]) -> str:
    """Round by round, since the machine's speed changes in between."""
    return Spread.of([a / b for a, b in zip(one, other, strict=True)]).told(2)


def speed(taken: Taken, number: int) -> str:
    return Spread.of([number / each for each in taken.seconds]).told()


async def measure(rounds: int, number: int) -> None:
    texts = prose(number)
    direct = Direct(spinning=False)
    async with open_encoders() as encoders, open_http() as http:
        with TemporaryDirectory() as folder:
            async with open_local_model(Path(folder)) as local:
                pool = Pool(Means(http, local, encoders))
                router = ModelRouter(RouterSettings(), pool, env={})
                mixed = await of_many("4 to 80 words", router, direct, texts, rounds)
                alike = prose(number, ALIKE)
                same = await of_many("24 words", router, direct, alike, rounds)
                key = Loading(ENDPOINT), Bounds()
                worker = encoders.worker(key, "", partial(load, key[0]), key[1])
                single = await of_singles(router, direct, worker.engine, texts, rounds)
    write("embeddings", {"mixed lengths": mixed, "one length": same, "singles": single})


async def of_many(
    what: str, router: ModelRouter, direct: Direct, texts: Sequence[str], rounds: int
) -> dict[str, Any]:
    spinning = Direct(spinning=True)
    variants: dict[str, Embed] = {
        "direct": lambda texts: asyncio.to_thread(spinning.embed, texts),
        "direct, not spinning": lambda texts: asyncio.to_thread(direct.embed, texts),
        "direct, by length": lambda texts: asyncio.to_thread(direct.by_length, texts),
        "router": lambda texts: router.embed(EmbedRequest(tuple(texts))),
    }
    taken = await interleaved(variants, texts, rounds)
    ours = taken["router"]
    table(
        f"{len(texts)} texts of {what} in one call",
        ("", "texts/s", "router is faster by", "router takes CPU"),
        [
            [
                name,
                speed(each, len(texts)),
                ratios(each.seconds, ours.seconds),
                ratios(ours.cpu, each.cpu),
            ]
            for name, each in taken.items()
        ],
    )
    return taken


async def of_singles(
    router: ModelRouter, direct: Direct, engine: Any, texts: Sequence[str], rounds: int
) -> dict[str, Any]:
    runs: list[int] = []
    run = engine.run

    def counted(pieces: Sequence[Any], switch: Any) -> Any:
        runs.append(len(pieces))
        return run(pieces, switch)

    engine.run = counted

    async def callers(texts: Sequence[str], most: int) -> None:
        waiting = iter(texts)

        async def caller() -> None:
            for text in waiting:
                await router.embed(EmbedRequest((text,)))

        await asyncio.gather(*(caller() for _ in range(most)))

    def one_by_one(texts: Sequence[str]) -> None:
        for text in texts:
            direct.embed([text])

    sizes: dict[str, list[int]] = {}

    def through(most: int) -> Embed:
        async def embed(texts: Sequence[str]) -> None:
            runs.clear()
            await callers(texts, most)
            sizes[f"router, {most} callers"] = list(runs)

        return embed

    variants: dict[str, Embed] = {
        "direct, one by one": lambda texts: asyncio.to_thread(one_by_one, texts),
        "router, 1 callers": through(1),
        f"router, {CALLERS} callers": through(CALLERS),
    }
    taken = await interleaved(variants, texts, rounds)
    engine.run = run
    base = taken["direct, one by one"]
    table(
        f"{len(texts)} calls with one text each",
        ("", "texts/s", "faster than direct by", "CPU of direct's", "texts per run"),
        [
            [
                name,
                speed(each, len(texts)),
                ratios(base.seconds, each.seconds),
                ratios(each.cpu, base.cpu),
                f"{len(texts) / len(sizes[name]):.1f}" if name in sizes else "1.0",
            ]
            for name, each in taken.items()
        ],
    )
    return {"taken": taken, "runs": sizes}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    wanted = parser.parse_args(arguments)
    console.print(f"{len(os.sched_getaffinity(0))} threads, batches of {BATCH}")
    asyncio.run(measure(wanted.rounds, wanted.texts))


if __name__ == "__main__":
    main()
