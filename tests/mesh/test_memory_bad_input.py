"""What can't be meant is refused by memory with the field's name, whoever says it, and nothing
is changed by it."""

import json

import grpc
import pytest
from astromesh.memory.v1 import memory_service_pb2
from astromesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from google.protobuf import json_format, message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

AS_ADA = (("x-astromesh-principal", "ada"),)
LONG, ODD, NUL = "x" * 257, "a\nb", "a\0b"
TRICKS = {"sql'; DROP TABLE record;--": "' OR 1=1 --", "$ne": '{"$gt": ""}', "a.b[0]": "}"}
HERE = {"agent": "odd", "session": "s"}
MESSAGE = {"role": "ROLE_USER", "text": "hi"}
SERVICE = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"]


def request(rpc: str, said: dict):
    kind = message_factory.GetMessageClass(SERVICE.methods_by_name[rpc].input_type)
    return json_format.ParseDict(said, kind())


async def called(channel, rpc: str, said: dict, who=AS_ADA):
    return await getattr(MemoryServiceStub(channel), rpc)(request(rpc, said), metadata=who)


def fields(failed: grpc.aio.AioRpcError) -> list[str]:
    status, bad = rpc_status.from_call(failed), error_details_pb2.BadRequest()
    found = [each for each in status.details if each.Unpack(bad)]
    assert found, status
    return [each.field for each in bad.field_violations]


NAMES = [
    (rpc, {**HERE, **more}, field)
    for rpc, field, more in (
        ("AppendTurns", "session", {"session": LONG, "messages": [MESSAGE]}),
        ("ListTurns", "agent", {"agent": ""}),
        ("ClearHistory", "session", {"session": ""}),
        ("BuildContext", "session", {"session": NUL}),
        ("SetTokenCounts", "session", {"session": ODD, "counts": [{"index": 0, "tokens": 1}]}),
        ("GetBacklog", "agent", {"agent": LONG}),
        ("UpdateSummary", "session", {"session": LONG, "summary": "x", "until": 1}),
    )
]
VALUES = [
    ("AppendTurns", {**HERE, "messages": []}, "messages"),
    ("AppendTurns", {**HERE, "messages": [MESSAGE], "tokens": [-1], "counted_by": "t"}, "tokens"),
    ("AppendTurns", {**HERE, "messages": [MESSAGE], "backend": "nowhere"}, "backend"),
    ("AppendTurns", {**HERE, "messages": [MESSAGE], "counted_by": NUL}, "counted_by"),
    ("AppendTurns", {**HERE, "messages": [MESSAGE], "ttl_seconds": "NaN"}, "ttl_seconds"),
    ("BuildContext", {**HERE, "strategy": "' OR '1'='1"}, "strategy"),
    ("BuildContext", {**HERE, "episodic": {"max_results": 10**9}}, "episodic.max_results"),
    ("BuildContext", {**HERE, "semantic": {"top_k": 10**9}}, "semantic.top_k"),
    ("BuildContext", {**HERE, "semantic": {"collection": "nowhere"}}, "collection"),
    ("CheckBackend", {"backend": "redis://10.0.0.1/0"}, "backend"),
    ("ListTurns", {**HERE, "page_size": -1}, "page_size"),
    ("ListTurns", {**HERE, "page_token": "never given"}, "page_token"),
    ("UpdateSummary", {**HERE, "summary": " ", "until": 1}, "summary"),
    ("UpdateSummary", {**HERE, "summary": "x", "until": 1, "etag": NUL}, "etag"),
    ("ListSessions", {"agent": "odd", "page_token": NUL}, "page_token"),
    ("RecordEpisode", {"agent": "odd", "type": 1, "text": "x"}, "type"),
    ("RecordEpisode", {"agent": "odd", "type": 4, "text": NUL}, "text"),
    ("RecordEpisode", {"agent": "odd", "type": 4, "text": "x" * 16_385}, "text"),
    ("RecordEpisode", {"agent": "odd", "type": 3, "run_id": "r", "rating": "NaN"}, "rating"),
    ("RecordEpisodes", {**HERE, "run_id": "r", "attempt": 1}, "episodes"),
    ("ListEpisodes", {"agent": "odd", "session": LONG}, "session"),
    ("GetEpisode", {"agent": "odd", "episode_id": LONG}, "episode_id"),
    ("DeleteEpisode", {"agent": "odd", "episode_id": ""}, "episode_id"),
    ("DeleteEpisodes", {"agent": "odd"}, "all"),
    ("ExportPrincipal", {"principal": LONG}, "principal"),
    ("ErasePrincipal", {"principal": NUL}, "principal"),
    ("Remember", {"agent": "odd", "text": NUL}, "text"),
    ("Remember", {"agent": "odd", "text": "x", "metadata": {"": 1}}, "metadata."),
    ("Remember", {"agent": "odd", "text": "x", "metadata": {"a": {"$gt": 1}}}, "metadata.a"),
    ("Remember", {"agent": "odd", "text": "x", "metadata": {"a": None}}, "metadata.a"),
    ("Remember", {"agent": "odd", "text": "x", "ttl_seconds": -1}, "ttl_seconds"),
    ("Remember", {"agent": "odd", "text": "x", "collection": "nowhere"}, "collection"),
    ("Recall", {"agent": "odd", "query": "x", "top_k": 0}, "top_k"),
    ("Recall", {"agent": "odd", "query": "x", "top_k": 10**9}, "top_k"),
    (
        "Recall",
        {"agent": "odd", "query": "x", "similarity_threshold": "NaN"},
        "similarity_threshold",
    ),
    ("Recall", {"agent": "odd", "query": "x", "filter": {"a": {"$ne": 1}}}, "filter.a"),
    ("Recall", {"agent": "odd", "query": "x", "filter": {"a": []}}, "filter.a"),
    ("Forget", {"agent": "odd"}, "id"),
    ("Forget", {"agent": "odd", "id": "m", "all": True}, "id"),
    ("ListMemories", {"agent": "odd", "page_size": -1}, "page_size"),
    ("CheckCollection", {"collection": "nowhere"}, "collection"),
]


@pytest.mark.parametrize(
    ("rpc", "said", "field"),
    NAMES + VALUES,
    ids=[f"{rpc}-{field}-{number}" for number, (rpc, _, field) in enumerate(NAMES + VALUES)],
)
async def test_is_refused_with_the_name_of_the_field(channel, rpc, said, field):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await called(channel, rpc, said)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert fields(caught.value) == [field]


def test_each_rpc_has_its_cases():
    assert {rpc for rpc, *_ in NAMES + VALUES} == set(SERVICE.methods_by_name)


async def test_a_number_that_is_none_is_refused_in_metadata(channel):
    asked = request("Remember", {"agent": "odd", "text": "x"})
    asked.metadata.update({"a": float("nan")})  # JSON can't say it
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await MemoryServiceStub(channel).Remember(asked, metadata=AS_ADA)
    assert fields(caught.value) == ["metadata.a"]


async def test_a_principal_whose_name_is_too_long_is_refused(channel):
    who = (("x-astromesh-principal", LONG),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await called(channel, "Remember", {"agent": "odd", "text": "x"}, who)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "256" in caught.value.details()


async def test_what_looks_like_a_command_is_kept_and_found_as_it_is(channel):
    said = {"agent": "tricky", "text": json.dumps(TRICKS), "metadata": TRICKS}
    kept = (await called(channel, "Remember", said)).memory
    for key, value in TRICKS.items():
        asked = {"agent": "tricky", "query": "drop the table", "filter": {key: value}}
        found = (await called(channel, "Recall", asked)).memories
        assert [each.id for each in found] == [kept.id]
    assert json_format.MessageToDict(kept.metadata) == TRICKS
    other = (("x-astromesh-principal", "' OR '1'='1"),)
    assert not (await called(channel, "Recall", asked, other)).memories
    assert (await called(channel, "Forget", {"agent": "tricky", "all": True})).deleted_memories == 1
