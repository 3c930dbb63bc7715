"""`SemanticMemory` answered by another process: same calls, same values, same errors."""

from collections.abc import Sequence

from astromesh.memory.v1 import memory_service_pb2_grpc
from astromesh.memory.v1 import semantic_pb2 as pb

from servers.domain.caller import Caller
from servers.domain.semantic import (
    Forgetting,
    Memory,
    MemoryPage,
    MemoryQuery,
    Reader,
    Remembered,
    RememberOutcome,
)
from servers.kernel.calls import metadata_of
from servers.kernel.status import domain_errors
from servers.memory.convert import semantic as convert
from servers.memory.requests import check_query, check_reader, check_remembered


class RemoteSemanticMemory:
    """Checks first what can't be put on the wire, or would mean something else there."""

    def __init__(self, stub: memory_service_pb2_grpc.MemoryServiceStub) -> None:
        self._stub = stub

    async def remember(
        self, reader: Reader, remembered: Remembered, collection: str = ""
    ) -> tuple[Memory, RememberOutcome]:
        check_remembered(reader, remembered)
        request = convert.remembered_to(reader, remembered, collection)
        with domain_errors("memory"):
            answer = await self._stub.Remember(request, metadata=_scope(reader))
        return convert.memory_from(answer.memory), convert.outcome_from(answer.outcome)

    async def recall(self, reader: Reader, query: MemoryQuery) -> Sequence[Memory]:
        check_query(reader, query)
        with domain_errors("memory"):
            answer = await self._stub.Recall(
                convert.recall_to(reader, query), metadata=_scope(reader)
            )
        return convert.memories_from(answer.memories)

    async def forget(self, reader: Reader, which: Forgetting, collection: str = "") -> int:
        check_reader(reader)
        request = convert.forgetting_to(reader, which, collection)
        with domain_errors("memory"):
            answer = await self._stub.Forget(request, metadata=_scope(reader))
        return int(answer.deleted_memories)

    async def memories(
        self, reader: Reader, query: MemoryQuery, page_size: int = 0, page_token: str = ""
    ) -> MemoryPage:
        check_reader(reader)
        request = pb.ListMemoriesRequest(
            agent=reader.agent,
            session=reader.session,
            filter=convert.where_to(query.where),
            collection=query.collection,
            page_size=page_size,
            page_token=page_token,
        )
        with domain_errors("memory"):
            answer = await self._stub.ListMemories(request, metadata=_scope(reader))
        return convert.page_from(answer)

    async def check(self, collection: str) -> None:
        request = pb.CheckCollectionRequest(collection=collection)
        with domain_errors("memory"):
            await self._stub.CheckCollection(request, metadata=metadata_of(Caller()))


def _scope(reader: Reader) -> list[tuple[str, str]]:
    return metadata_of(Caller(reader.tenant, reader.principal))
