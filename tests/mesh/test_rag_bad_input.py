"""Bad input to RAG, from REST, gRPC and the command line, on every store: it is told with code,
reason and a message that names the thing, nothing of it is kept, and the pipeline still works."""

import asyncio
import base64
import json
import os

import grpc
import httpx
import pytest
import pytest_asyncio
import yaml
from astromesh.rag.v1 import document_pb2 as docs
from astromesh.rag.v1 import ingestion_pb2, rag_service_pb2_grpc
from astromesh.rag.v1 import rag_service_pb2 as pb
from google.protobuf.json_format import ParseDict

from tests.contract.rag_fixture import pipeline
from tests.mesh.mesh_process import mesh_process
from tests.mesh.program import invoked
from tests.mesh.test_bad_input import grpc_told, told
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
GOOD = "Everybody has thirty days of holiday a year."
STORES = ("faiss", "pgvector", "qdrant", "chroma")
FAULTY = {
    "overlap": ({"chunking": {"chunk_size": 100, "overlap": 100}}, "overlap 100 is not smaller"),
    "size": ({"chunking": {"chunk_size": 0}}, "spec.chunking.chunk_size"),
    "backend": ({"vector_store": {"backend": "pinecone"}}, "known are faiss, pgvector"),
    "top-k": ({"retrieval": {"top_k": 10**9}}, "spec.retrieval.top_k"),
}
# Names and values that mean something to SQL, to JSON, or to a store.
TRICKS = {
    "'; DROP TABLE record; --": "' OR '1'='1",
    '"}, "acl": ["': '\\"}]}',
    "$.tenant": "%",
    "{a,b}": "{}",
    "tenant": "other",
    "acl:@": "true",
    "index": 0,
    "record": "good",
    "version": "x",
    "__proto__": "null",
    "field:tenant": "a:b",
    "naïve 名": "\u202e\U0001f600",
}


def write(folder, name, **spec):
    file = folder / f"{name}.rag.yaml"
    file.write_text(yaml.safe_dump(pipeline(name, **spec)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("bad")
    files = folder / "config" / "rag"
    files.mkdir(parents=True)
    async with openai_server(Reply()) as model:
        for store in STORES:
            address = {"dsn": postgres.schema()} if store == "pgvector" else {}
            kept = {"backend": store, "collection": "kept", **address}
            other = {"provider": "openai_compat", "model": "m", "endpoint": model.endpoint}
            write(files, store, vector_store=kept, retrieval={"hybrid": True})
            write(files, f"other-{store}", vector_store=kept, embeddings=other)
        write(files, "narrow", embeddings={"dimension": 64})
        for name, (spec, _) in FAULTY.items():
            write(files, name, **spec)
        with mesh_process(folder) as mesh:
            yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(mesh):
    async with httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(mesh):
    """gRPC, through Envoy."""
    async with grpc.aio.insecure_channel(mesh.url.removeprefix("http://")) as channel:
        yield rag_service_pb2_grpc.RagServiceStub(channel)


async def asked(http, store, **query):
    return await http.post(f"/v1/rag/{store}/query", json={"query": "holidays", **query})


async def sent(http, store, **document):
    return await http.post(f"/v1/rag/{store}/documents", json={"document": document})


@pytest_asyncio.fixture(loop_scope="module", params=STORES)
async def store(request, http):
    """A pipeline with one good document, which still works after the test and has that one."""
    name = request.param
    await sent(http, name, id="good", text=GOOD, metadata={"kind": "good"})
    yield name
    found = (await asked(http, name, top_k=10)).json()["passages"]
    listed = (await http.get(f"/v1/rag/{name}/documents")).json()["documents"]
    assert {each["document"] for each in found} == {each["id"] for each in listed} == {"good"}


DOCUMENTS = {
    "junk": ("junk.txt", bytes(range(256)) * 20, "DOCUMENT_UNREADABLE", "no text in UTF-8"),
    "nul": ("nul.txt", b"one\0two", "DOCUMENT_UNREADABLE", "NUL bytes"),
    "latin": ("latin.txt", b"Gr\xfc\xdfe", "DOCUMENT_UNREADABLE", "convert it"),
    "pdf": ("broken.pdf", b"%PDF-1.7\n1 0 obj <<", "DOCUMENT_UNREADABLE", "is the file whole?"),
    "docx": ("broken.docx", b"PK\x03\x04nothing", "DOCUMENT_UNREADABLE", "is the file whole?"),
    "empty": ("empty.md", b"", "DOCUMENT_EMPTY", "holds no text"),
    "blank": ("blank.html", b"<script>x()</script>", "DOCUMENT_EMPTY", "holds no text"),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
class TestADocumentThatCanNotBeRead:
    async def test_is_named_over_rest(self, http, kind):
        name, content, reason, why = DOCUMENTS[kind]
        coded = base64.b64encode(content).decode()
        status, code, told_reason, message = told(await sent(http, "faiss", id=name, content=coded))
        assert (status, code, told_reason) == (400, 3, reason)
        assert f"the document {name!r}" in message
        assert why in message

    async def test_is_named_over_grpc(self, stub, kind):
        name, content, reason, why = DOCUMENTS[kind]
        document = docs.Document(id=name, content=content)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.IngestDocument(pb.IngestDocumentRequest(pipeline="faiss", document=document))
        code, told_reason, message = grpc_told(failed.value)
        assert (code, told_reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert f"the document {name!r}" in message
        assert why in message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name, content, _, _ in DOCUMENTS.values():
        (folder / name).write_bytes(content)
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(100 * MIB)
    (folder / os.fsdecode(b"na\xffme.txt")).write_text("x")
    (folder / "new\nline.txt").write_text("x")
    (folder / "good").write_text("not of a kind that is taken")
    return folder


class TestAFolderOnTheCommandLine:
    async def cli(self, mesh, *words):
        return await asyncio.to_thread(invoked, "rag", *words, "--address", mesh.address)

    def names_all(self, said):
        for name, _, _, why in DOCUMENTS.values():
            (line,) = [each for each in said.splitlines() if f"the document {name!r}" in each]
            assert why in line
        for why in ("100 MiB are too many", "not in UTF-8: give", "'new\\nline.txt'"):
            assert why in said
        assert "Traceback" not in said

    async def test_is_told_of_each_that_can_not_be_taken(self, mesh, folder):
        done = await self.cli(mesh, "ingest", str(folder), "-p", "faiss")
        assert done.code == 1
        assert "10 documents: 0 created, 0 replaced, 0 unchanged, 10 failed" in done.out
        self.names_all(done.err)

    async def test_is_told_of_each_in_the_background_too(self, mesh, folder):
        given = await self.cli(mesh, "ingest", str(folder), "-p", "faiss", "--background")
        name = given.out.strip()
        waited = await self.cli(mesh, "operations", "wait", name)
        shown = await self.cli(mesh, "operations", "get", name)
        listed = await self.cli(mesh, "operations", "list")
        deleted = await self.cli(mesh, "operations", "delete", name)
        gone = await self.cli(mesh, "operations", "get", name)
        assert (given.code, waited.code, shown.code, deleted.code, gone.code) == (1, 1, 0, 0, 1)
        self.names_all(given.err + waited.err)
        self.names_all(given.err + shown.err)
        assert "8 failed" in listed.out
        assert "OPERATION_NOT_FOUND" in gone.err

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (("query", "x", "-p", "fais"), "did you mean 'faiss'?"),
            (("query", "x", "-p", "overlap"), "overlap 100 is not smaller"),
            (("query", "x", "-p", "faiss", "--top-k", "1000000000"), "not from 1 to 1000"),
            (("query", "x", "-p", "faiss", "--where", "colour=red"), "filter.colour"),
            (("query", "", "-p", "faiss"), "query: say what is looked for"),
            (("operations", "get", "no-such"), "there is no operation"),
        ],
        ids=lambda words: " ".join(words[:1]) if isinstance(words, tuple) else "",
    )
    async def test_is_no_place_for_nonsense(self, mesh, words, why):
        done = await self.cli(mesh, *words)
        assert (done.code, done.out) == (1, "")
        assert why in done.err


async def test_a_document_of_100_megabytes_is_refused_over_rest(mesh):
    """Before all of it has come."""
    reader, writer = await asyncio.open_connection(*mesh.url.removeprefix("http://").split(":"))
    head = (
        f"POST /v1/rag/faiss/documents HTTP/1.1\r\nhost: localhost\r\ncontent-length: {100 * MIB}"
    )
    writer.write(f'{head}\r\n\r\n{{"document": {{"id": "h", "text": "'.encode())
    writer.write(b"a" * 5 * MIB)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.readuntil(b"larger than 4194304 bytes")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"REQUEST_TOO_LARGE" in answer


async def test_a_document_of_100_megabytes_is_refused_as_a_stream(stub):
    async def parts():
        document = docs.Document(id="huge.txt")
        yield pb.IngestDocumentsRequest(pipeline="faiss", document=document)
        for _ in range(50):
            yield pb.IngestDocumentsRequest(more_content=b"a" * 2 * MIB)

    (told,) = [each async for each in stub.IngestDocuments(parts())]
    assert (told.outcome, told.error_reason) == (
        docs.INGEST_OUTCOME_FAILED,
        "DOCUMENT_TOO_LARGE",
    )
    assert "the document 'huge.txt' is too large: it has more than 64 MiB" in told.error_message


@pytest.mark.parametrize("name", FAULTY)
async def test_a_pipeline_that_is_wrong_says_so_to_all_who_ask(http, stub, name):
    why = FAULTY[name][1]
    pipelines = (await http.get("/v1/rag")).json()["pipelines"]
    (listed,) = [each for each in pipelines if each["name"] == name]
    assert (listed["ready"], why in listed["reason"]) == (False, True)
    answers = (
        await asked(http, name),
        await sent(http, name, id="a", text=GOOD),
        await http.post(f"/v1/rag/{name}/ingestions", json={"documents": [{"id": "a"}]}),
    )
    for answer in answers:
        assert told(answer)[:3] == (400, 9, "PIPELINE_NOT_READY")
        assert f"{name}.rag.yaml" in told(answer)[3]
        assert why in told(answer)[3]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Query(pb.QueryRequest(pipeline=name, query="x"))
    assert grpc_told(failed.value)[:2] == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PIPELINE_NOT_READY",
    )


async def test_a_model_of_another_dimension_is_named(http):
    answer = await sent(http, "narrow", id="a", text=GOOD)
    assert told(answer)[:3] == (400, 9, "DIMENSION_MISMATCH")
    assert "say 384, or no number" in told(answer)[3]


async def test_vectors_of_another_model_are_refused_by_every_store(http, store):
    for answer in (
        await sent(http, f"other-{store}", id="a", text=GOOD),
        await asked(http, f"other-{store}"),
    ):
        assert told(answer)[:3] == (400, 9, "EMBEDDING_MISMATCH")
        assert "name another collection" in told(answer)[3]


async def test_metadata_means_nothing_but_itself(http, store):
    stored = await sent(http, store, id="odd", text=GOOD, metadata=TRICKS)
    assert stored.json()["document"]["metadata"] == TRICKS
    for key, value in TRICKS.items():
        found = await asked(http, store, filter={key: value})
        other = await asked(http, store, filter={key: f"{value}x"})
        assert [each["document"] for each in found.json()["passages"]] == ["odd"], key
        assert other.json()["passages"] == [], key
    assert (await http.delete(f"/v1/rag/{store}/documents/odd")).status_code == 200


@pytest.mark.parametrize(
    ("query", "field", "why"),
    [
        ({"top_k": 0}, "top_k", "0 is not from 1 to 1000"),
        ({"top_k": 10**9}, "top_k", "1000000000 is not from 1 to 1000"),
        ({"filter": {"colour": "red"}}, "filter.colour", "no document has metadata of that name"),
        ({"filter": {"kind": {"$ne": "x"}}}, "filter.kind", "expected a text, a number"),
        ({"filter": {"$or": [{"kind": "x"}]}}, "filter.$or", "or a list of those"),
        ({"filter": {"kind": []}}, "filter.kind", "the list is empty"),
        ({"filter": {"kind": "a\0b"}}, "filter.kind", "NUL"),
        ({"query": "a\0b"}, "query", "NUL"),
        ({"query": " "}, "query", "it is empty"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
async def test_a_question_that_makes_no_sense_is_refused(http, stub, store, query, field, why):
    answer = await asked(http, store, **query)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    violations = answer.json()["details"][1]["field_violations"]
    assert [each["field"] for each in violations] == [field]
    assert why in violations[0]["description"]
    request = ParseDict({"pipeline": store, "query": "holidays", **query}, pb.QueryRequest())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Query(request)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert why in failed.value.details()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"text": GOOD}, "document.id"),
        ({"id": "a\nb", "text": GOOD}, "document.id"),
        ({"id": "n" * 513, "text": GOOD}, "document.id"),
        ({"id": "a", "text": GOOD, "metadata": {"a": {"b": 1}}}, "document.metadata.a"),
        ({"id": "a", "text": GOOD, "metadata": {"a": None}}, "document.metadata.a"),
        ({"id": "a", "text": GOOD, "metadata": {"a": "b\0"}}, "document.metadata.a"),
        ({"id": "a", "text": GOOD, "title": "b\0"}, "document.title"),
        ({"id": "a", "text": GOOD, "acl": [""]}, "document.acl"),
    ],
    ids=str,
)
async def test_a_document_that_makes_no_sense_is_refused(http, store, document, field):
    answer = await sent(http, store, **document)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    violations = answer.json()["details"][1]["field_violations"]
    assert [each["field"] for each in violations] == [field]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"pipeline": "faiss"}, "documents: there is none"),
        ({"pipeline": "faiss", "documents": [{"text": GOOD}]}, "documents[0].id: it is empty"),
        (
            {"pipeline": "faiss", "documents": [{"id": "a"}], "request_id": "r" * 129},
            "request_id",
        ),
    ],
    ids=["none", "nameless", "request-id"],
)
async def test_an_operation_that_makes_no_sense_is_not_begun(http, stub, request_, why):
    request = ParseDict(request_, ingestion_pb2.CreateIngestionRequest())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateIngestion(request)
    assert grpc_told(failed.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert why in grpc_told(failed.value)[2]
    assert (await http.get("/v1/operations?filter=done=false")).json()["operations"] == []
