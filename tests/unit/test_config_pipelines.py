"""Pipelines of the configuration folder: what is read, and what is said of those that are wrong."""

from pathlib import Path

import pytest

from servers.config import load_config
from servers.rag.declared import DeclaredPipeline

SHIPPED = Path(__file__).parents[2] / "config"
HEAD = "apiVersion: astromesh/v1\nkind: RAGPipeline\nmetadata: {name: n}\nspec:\n"


def declared(folder: Path, spec: str) -> DeclaredPipeline:
    (folder / "rag").mkdir()
    (folder / "rag" / "docs.rag.yaml").write_text(f"{HEAD}  {spec}\n")
    (pipeline,) = load_config(folder, folder / "state", {}).pipelines
    return pipeline


def test_those_of_the_example_are_sound():
    config = load_config(SHIPPED, Path(".state"), {})
    assert [(each.name, each.reason) for each in config.pipelines] == [("handbook", "")]


def test_one_with_a_provider_that_is_not_there_says_so(tmp_path):
    assert "spec.embeddings.provider" in declared(tmp_path, "embeddings: {provider: nobody}").reason


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("chunking: {chunk_size: 0}", "spec.chunking.chunk_size"),
        ("chunking: {chunk_size: 5, overlap: 5}", "overlap 5 is not smaller"),
        ("vector_store: {backend: milvus}", "spec.vector_store.backend"),
        ("vector_store: {backend: pgvector}", "needs a dsn"),
        ("vector_store: {collection: 'a; DROP'}", "is no name for a collection"),
        ("retrieval: {top_k: 0}", "spec.retrieval.top_k"),
        ("retrival: {top_k: 1}", "retrieval"),
    ],
)
def test_one_that_makes_no_sense_says_why(tmp_path, spec, says):
    pipeline = declared(tmp_path, spec)
    assert says in pipeline.reason
    assert pipeline.reason.startswith("docs.rag.yaml")


def test_one_may_be_written_as_upstream_has_them(tmp_path):
    spec = (
        "{chunking: {strategy: recursive, chunk_size: 512, overlap: 50, separators: ['x']},"
        " embeddings: {provider: ollama, model: nomic-embed-text, dimension: 768},"
        " vector_store: {backend: chromadb, collection: docs, connection: {host: h, port: 1}},"
        " reranking: {enabled: true, provider: cohere, model: m, top_k: 3},"
        " retrieval: {top_k: 10, similarity_threshold: 0.7}}"
    )
    found = declared(tmp_path, spec)
    assert found.pipeline, found.reason
    assert found.pipeline.spec.vector_store.place("docs").address == "http://h:1"
