"""`Memory` answered by another process: same calls, same values, same errors."""

from collections.abc import Sequence

import grpc
from astromesh.memory.v1 import memory_service_pb2 as pb
from astromesh.memory.v1 import memory_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.chat import Message
from servers.domain.memory import MemoryContext, SessionKey, Strategy, TurnPage
from servers.kernel.calls import metadata_of
from servers.kernel.chat_wire import messages_to
from servers.kernel.status import domain_errors
from servers.memory import convert
from servers.memory.names import check_key


class RemoteMemory:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = memory_service_pb2_grpc.MemoryServiceStub(channel)

    async def append(self, key: SessionKey, messages: Sequence[Message], run_id: str = "") -> int:
        check_key(key)
        request = pb.AppendTurnsRequest(
            agent=key.agent, session=key.session, messages=messages_to(messages), run_id=run_id
        )
        with domain_errors("memory"):
            answer = await self._stub.AppendTurns(request, metadata=_scope(key))
        return int(answer.total_turns)

    async def turns(self, key: SessionKey, page_size: int = 0, page_token: str = "") -> TurnPage:
        check_key(key)
        request = pb.ListTurnsRequest(
            agent=key.agent, session=key.session, page_size=page_size, page_token=page_token
        )
        with domain_errors("memory"):
            return convert.page_from(await self._stub.ListTurns(request, metadata=_scope(key)))

    async def clear(self, key: SessionKey) -> int:
        check_key(key)
        request = pb.ClearHistoryRequest(agent=key.agent, session=key.session)
        with domain_errors("memory"):
            answer = await self._stub.ClearHistory(request, metadata=_scope(key))
        return int(answer.deleted_turns)

    async def context(self, key: SessionKey, strategy: Strategy) -> MemoryContext:
        check_key(key)
        request = pb.BuildContextRequest(
            agent=key.agent,
            session=key.session,
            strategy=strategy.name,
            max_turns=strategy.max_turns,
        )
        with domain_errors("memory"):
            answer = await self._stub.BuildContext(request, metadata=_scope(key))
        return convert.context_from(answer)


def _scope(key: SessionKey) -> list[tuple[str, str]]:
    # Without it the far side would take the call for the default tenant's.
    return metadata_of(Caller(key.tenant))
