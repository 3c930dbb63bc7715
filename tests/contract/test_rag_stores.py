"""What the RAG service refuses, and what it takes, whatever store a pipeline names."""

import pytest
import pytest_asyncio

from servers.kernel.errors import InvalidInput, NotFound
from servers.kernel.vectors.opening import BACKENDS
from tests.contract.rag_fixture import ALICE, P, asks, document, packaged_router, pipeline, service

GOOD = "Everybody has thirty days of holiday a year."
LUNCH = "The canteen serves soup and bread at noon."
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(BACKENDS))
async def kept(request, tmp_path_factory, router):
    store = {"backend": request.param}
    if request.param == "pgvector":
        store["dsn"] = request.getfixturevalue("postgres").schema()
    folder = tmp_path_factory.mktemp("kept")
    said = pipeline(vector_store=store, retrieval={"hybrid": True})
    async with service(folder, router, said) as rag:
        await rag.ingest(ALICE, P, document("good", GOOD, metadata={"n": 1}))
        yield rag


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"title": "a\0b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"uri": "a\0b"}, "uri"),
        ({"metadata": {"n": "a\0b"}}, "metadata.n"),
        ({"metadata": {"n": 2**63}}, "metadata.n"),
        ({"metadata": {"n": float("nan")}}, "metadata.n"),
    ],
    ids=ascii,
)
async def test_refuses_what_another_one_can_t_keep(kept, more, field):
    with pytest.raises(InvalidInput) as caught:
        await kept.ingest(ALICE, P, document("bad", LUNCH, **more))
    assert [each.field for each in caught.value.violations] == [f"document.{field}"]
    assert [each.id for each in (await kept.documents(ALICE, P)).documents] == ["good"]


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ({"n": "a\0b"}, "filter.n"),
        ({"n\0": 1}, "filter"),
        ({"n": (1, 2**63)}, "filter.n"),
        ({"n": float("inf")}, "filter.n"),
        ({f"n{number}": 1 for number in range(2000)}, "filter"),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_refuses_what_another_one_can_t_compare(kept, where, field):
    with pytest.raises(InvalidInput) as caught:
        await kept.query(ALICE, asks("holidays", where=where))
    assert [each.field for each in caught.value.violations] == [field]


@pytest.mark.parametrize("number", [1e20, 1e300, -(2.0**63), 0.1])
async def test_finds_documents_by_any_number(kept, number):
    await kept.ingest(ALICE, P, document("numbered", LUNCH, metadata={"n": number}))
    found = await kept.query(ALICE, asks("lunch", where={"n": number}))
    assert [each.document for each in found] == ["numbered"]
    await kept.delete(ALICE, P, "numbered")


@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\ud800"], ids=ascii)
async def test_has_nothing_to_delete_of_what_it_never_took(kept, name):
    with pytest.raises(NotFound):
        await kept.delete(ALICE, P, name)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=ascii)
async def test_refuses_a_question_that_is_no_text(kept, text):
    with pytest.raises(InvalidInput):
        await kept.query(ALICE, asks(text))
