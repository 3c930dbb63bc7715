"""A real llama.cpp server, from the extra `local`, that embeds or ranks with a tiny model."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from servers.router.adapters.http import open_http
from servers.router.adapters.openai.llamacpp import LlamaCpp
from tests.contract import tiny_bert
from tests.contract.text_subjects import Embedding, Ranking
from tests.patience import PATIENCE

_ROOT = Path(__file__).parents[2]
_SERVER = """
import os, sys, xllamacpp
pooling, path = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.embedding = True
params.pooling_type = getattr(xllamacpp.llama_pooling_type, "LLAMA_POOLING_TYPE_" + pooling)
params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = 2048, 4, 512, 512
for cpu in (params.cpuparams, params.cpuparams_batch):
    cpu.n_threads, cpu.poll = 1, 0
params.hostnames, params.port = ["127.0.0.1"], 0
params.fit_params = params.ui = False
params.verbosity = 0
said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
server = xllamacpp.Server(params)
print(server.listening_address, file=said, flush=True)
sys.stdin.read()
os._exit(0)
"""


@asynccontextmanager
async def llama(folder: Path, pooling: str) -> AsyncIterator[str]:
    """Its address. It ends when its stdin does."""
    model = tiny_bert.write(folder / "tiny.gguf", ranks=pooling == "RANK")
    words = (sys.executable, "-c", _SERVER, pooling, str(model))
    process = await asyncio.create_subprocess_exec(
        *words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=_ROOT
    )
    assert process.stdin
    assert process.stdout
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        yield line.decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def embedding(folder: Path) -> AsyncIterator[Embedding]:
    async with llama(folder, "MEAN") as address, open_http() as http:
        yield Embedding(LlamaCpp(address, http))


@asynccontextmanager
async def ranking(folder: Path) -> AsyncIterator[Ranking]:
    async with llama(folder, "RANK") as address, open_http() as http:
        yield Ranking(LlamaCpp(address, http))
