"""How much of Triton's speed is left behind the router?

The same texts are embedded by the real Triton on this machine's CPU in three ways, interleaved,
with as many callers each: by Triton's own client; by the router in this process; by
RouterService of a started mesh over gRPC. `minilm` is a real model (MiniLM, int8), and Triton
batches it; `tallies` has next to nothing to compute, so that only the way there is left.
The ratio is taken within a round. "CPU here" is that of this process: caller and client, or caller
and router. An answer counts only if it has the form of the right one (minilm), or is it (tallies).

    python -m bench.triton_embeddings [--seconds 5] [--rounds 5]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import grpc
import numpy as np
import uvloop
import yaml
from astromesh.router.v1 import candidate_pb2 as pb
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc
from astromesh.router.v1 import texts_pb2
from tritonclient.grpc import aio as kserve

from bench.mesh import Mesh, mesh
from bench.report import Spread, table, write
from servers.config import load_config
from servers.domain.chat import ModelRef
from servers.domain.embeddings import EmbedRequest
from servers.domain.services import Router
from servers.mesh import open_mesh
from tests.triton import server as triton_server

Vectors = Sequence[Sequence[float]]
Embed = Callable[[str, Sequence[str]], Awaitable[Vectors]]  # model, texts

WORDS = ("the", "fox", "runs", "through", "snow", "while", "interest", "rates", "rise", "again")
INPUTS = {"minilm": ("text", "embedding"), "tallies": ("texts", "letters")}
PROVIDERS = {"minilm": "gpu", "tallies": "counting"}


@dataclass(frozen=True, slots=True)
class Case:
    model: str
    texts: int  # a call
    callers: int


CASES = (Case("minilm", 1, 16), Case("minilm", 32, 4), Case("tallies", 1, 16))


@dataclass(frozen=True, slots=True)
class Turn:
    """How one side did in one round."""

    texts: float  # a second
    cpu: float  # µs of this process for a text
    wrong: int


def sentences(number: int, texts: int) -> list[str]:
    """Different ones in every call, of about the same length."""
    turned = (number * texts + each for each in range(texts))
    return [" ".join((WORDS * 2)[at % len(WORDS) :][:12]) + f" {at}" for at in turned]


async def turn(embed: Embed, case: Case, seconds: float) -> Turn:
    """Each caller asks again when it was answered."""
    numbers, done, wrong = count(), 0, 0
    until = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done, wrong
        while time.perf_counter() < until:
            texts = sentences(next(numbers), case.texts)
            vectors = await embed(case.model, texts)
            right = len(vectors) == len(texts) and all(map(right_for(case), texts, vectors))
            done, wrong = done + len(texts) * right, wrong + (not right)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(case.callers)))
    took, used = time.perf_counter() - began, time.process_time() - used
    return Turn(done / took, used / max(done, 1) * 1e6, wrong)


def right_for(case: Case) -> Callable[[str, Sequence[float]], bool]:
    if case.model == "minilm":
        return lambda text, vector: len(vector) == 384
    # The router gives vectors of length 1: letters and blanks keep their proportion.
    return lambda text, vector: (
        abs(vector[0] * text.count(" ") - vector[1] * sum(map(str.isalpha, text)))
        < 1e-3 * abs(vector[0])
    )


@asynccontextmanager
async def direct(address: str) -> AsyncIterator[Embed]:
    async with kserve.InferenceServerClient(address) as client:

        async def embed(model: str, texts: Sequence[str]) -> Vectors:
            name, output = INPUTS[model]
            shape = [len(texts), 1] if model == "minilm" else [len(texts)]
            given = kserve.InferInput(name, shape, "BYTES")
            encoded = np.array([text.encode() for text in texts], dtype=np.object_)
            given.set_data_from_numpy(encoded.reshape(shape))
            answer = await client.infer(
                model, [given], outputs=[kserve.InferRequestedOutput(output)]
            )
            vectors: Vectors = answer.as_numpy(output)
            return vectors

        yield embed


def through(router: Router) -> Embed:
    async def embed(model: str, texts: Sequence[str]) -> Vectors:
        asked = EmbedRequest(tuple(texts), (ModelRef(PROVIDERS[model], model),))
        return (await router.embed(asked)).vectors

    return embed


@asynccontextmanager
async def over_grpc(port: int) -> AsyncIterator[Embed]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = router_grpc.RouterServiceStub(channel)

        async def embed(model: str, texts: Sequence[str]) -> Vectors:
            candidate = pb.ModelCandidate(provider=PROVIDERS[model], model=model)
            found = await stub.Embed(texts_pb2.EmbedRequest(texts=texts, candidates=[candidate]))
            return [each.values for each in found.embeddings]

        yield embed


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, Path, Mesh]]:
    """A Triton, a configuration that names it, and a mesh on that."""
    with triton_server.triton(folder, "minilm", "tallies") as server:
        config = folder / "config"
        (config / "agents").mkdir(parents=True)
        (config / "providers.yaml").write_text(_providers(server.endpoint))
        with mesh(config, folder) as running:
            yield server.address, config, running


def _providers(endpoint: str) -> str:
    here = {"type": "triton", "endpoint": endpoint}
    declared = {"gpu": here, "counting": {**here, "options": {"output": "letters"}}}
    envelope = {"apiVersion": "astromesh/v1", "kind": "ProviderConfig"}
    spec = {"metadata": {"name": "bench"}, "spec": {"providers": declared}}
    return yaml.safe_dump({**envelope, **spec})


async def measure(folder: Path, seconds: float, rounds: int) -> dict[str, dict[str, list[Turn]]]:
    found: dict[str, dict[str, list[Turn]]] = {}
    with started(folder) as (address, config, running):
        async with AsyncExitStack() as stack:
            own = await stack.enter_async_context(
                open_mesh(load_config(config, folder / "own-state", {}))
            )
            assert own.router is not None
            sides = {
                "tritonclient": await stack.enter_async_context(direct(address)),
                "router": through(own.router),
                "mesh, gRPC": await stack.enter_async_context(over_grpc(running.grpc_port)),
            }
            for case in CASES:
                label = f"{case.model}, {case.texts} a call, {case.callers} callers"
                turns = found[label] = {name: [] for name in sides}
                for embed in sides.values():
                    await turn(embed, case, 0.5)  # connections and caches
                for _ in range(rounds):
                    for name, embed in sides.items():
                        turns[name].append(await turn(embed, case, seconds))
    return found


def show(found: dict[str, dict[str, list[Turn]]]) -> None:
    for label, turns in found.items():
        base = turns["tritonclient"]
        rows = []
        for name, each in turns.items():
            ratios = [mine.texts / its.texts for mine, its in zip(each, base, strict=True)]
            speed, cpu = (Spread.of([getattr(one, of) for one in each]) for of in ("texts", "cpu"))
            wrong = str(sum(one.wrong for one in each))
            rows.append((name, speed.told(), Spread.of(ratios).told(2), cpu.told(), wrong))
        columns = ("", "texts a second", "of tritonclient's", "CPU here, µs a text", "wrong")
        table(label, columns, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measure(Path(folder), options.seconds, options.rounds))
    show(found)
    write("triton_embeddings", found)


if __name__ == "__main__":
    main()
