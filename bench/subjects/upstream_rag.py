"""Other people's ingestion and search: upstream's RAGPipeline, and LangChain's Chroma.

Runs in an environment of its own. Both get chunks that are cut already, and the model of the
mesh: upstream by texts one at a time, as it asks; LangChain by batches of 32.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvloop
from astromesh.rag.pipeline import RAGPipeline
from astromesh.rag.stores.chroma import ChromaStore
from astromesh.rag.stores.faiss_store import FAISSStore
from astromesh.rag.stores.pgvector import PGVectorStore
from langchain_chroma import Chroma
from langchain_core.embeddings import Embeddings
from taking_orders import serve
from tokenizers import Tokenizer

BATCH = 32


class Model(Embeddings):
    """The twenty lines around onnxruntime that one would write. Satisfies both sides."""

    def __init__(self, model: str, tokenizer: str, window: int, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.enable_truncation(window)
        self._tokenizer.enable_padding()

    def _run(self, texts: list[str]) -> list[list[float]]:
        read = self._tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in read], np.int64)
        mask = np.array([each.attention_mask for each in read], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(None, feeds)
        means = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
        return [vector for batch in batches for vector in self._run(batch)]

    def embed_query(self, text: str) -> list[float]:
        return self._run([text])[0]

    async def embed(self, text: str) -> list[float]:
        return self._run([text])[0]


class Sides:
    def __init__(self) -> None:
        self.upstream: dict[str, RAGPipeline] = {}
        self.langchain: Chroma | None = None

    async def open(self, model: dict[str, Any], folder: str, dsn: str) -> list[str]:
        embedding = Model(**model)
        stores = {
            "upstream, faiss": FAISSStore(384),
            "upstream, pgvector": PGVectorStore(dsn, "upstream", 384),
            "upstream, chroma": ChromaStore(persist_directory=str(Path(folder) / "upstream")),
        }
        self.upstream = {n: RAGPipeline(None, embedding, store) for n, store in stores.items()}
        self.langchain = Chroma(
            "langchain", embedding, persist_directory=str(Path(folder) / "langchain")
        )
        return [*self.upstream, "langchain, chroma"]

    async def ingest(self, side: str, chunks: list[tuple[str, str]]) -> float:
        """Seconds. `chunks`: id and text."""
        began = time.perf_counter()
        if side in self.upstream:
            for name, text in chunks:
                await self.upstream[side].ingest(text, {"document": name}, name)
        else:
            names, texts = zip(*chunks, strict=True)
            metadata = [{"document": name} for name in names]
            self.langchain.add_texts(list(texts), metadata, list(names))
        return time.perf_counter() - began

    async def ask(self, side: str, queries: list[str], callers: int) -> list[float]:
        """As `asked` of bench.rag_sides."""
        took = []

        async def one(query: str, began: float) -> None:
            if side in self.upstream:
                found = (await self.upstream[side].query(query, top_k=10)).chunks
            else:
                found = await self.langchain.asimilarity_search_with_score(query, k=10)
            assert len(found) == 10
            took.append(time.perf_counter() - began)

        for at in range(0, len(queries), callers):
            began = time.perf_counter()
            await asyncio.gather(*(one(query, began) for query in queries[at : at + callers]))
        return took


if __name__ == "__main__":
    sides = Sides()
    uvloop.run(serve({"open": sides.open, "ingest": sides.ingest, "ask": sides.ask}))
