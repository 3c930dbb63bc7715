"""`Memory` answered by another process: same calls, same values, same errors."""

from collections.abc import Sequence
from typing import Any

import grpc
from astromesh.memory.v1 import conversation_pb2 as pb
from astromesh.memory.v1 import memory_service_pb2, memory_service_pb2_grpc, principal_pb2

from servers.domain.caller import Caller
from servers.domain.chat import Message
from servers.domain.episodes import Episodes
from servers.domain.memory import (
    Backlog,
    Details,
    MemoryContext,
    RecordPage,
    SessionKey,
    SessionPage,
    Strategy,
    Summary,
    TurnPage,
)
from servers.domain.semantic import NOTHING_BESIDES, Besides, Erased
from servers.kernel.calls import metadata_of
from servers.kernel.chat_wire import messages_to
from servers.kernel.status import domain_errors
from servers.memory.convert import conversations as convert
from servers.memory.names import check_key, check_name, check_principal
from servers.memory.remote_episodes import RemoteEpisodes
from servers.memory.remote_semantic import RemoteSemanticMemory


class RemoteMemory:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = memory_service_pb2_grpc.MemoryServiceStub(channel)
        self.episodes: Episodes = RemoteEpisodes(self._stub)
        self.semantic = RemoteSemanticMemory(self._stub)

    async def append(
        self,
        key: SessionKey,
        messages: Sequence[Message],
        run_id: str = "",
        details: Details = Details(),  # noqa: B008  # frozen
    ) -> int:
        check_key(key)
        check_principal(details.principal)  # travels as metadata, where not all can
        request = pb.AppendTurnsRequest(
            agent=key.agent,
            session=key.session,
            messages=messages_to(messages),
            run_id=run_id,
            tokens=details.tokens,
            counted_by=details.counted_by,
            ttl_seconds=details.ttl,
            backend=details.backend,
        )
        scope = _scope(key.tenant, details.principal)
        with domain_errors("memory"):
            answer = await self._stub.AppendTurns(request, metadata=scope)
        return int(answer.total_turns)

    async def turns(
        self, key: SessionKey, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> TurnPage:
        request = pb.ListTurnsRequest(
            **_of(key, backend), page_size=page_size, page_token=page_token
        )
        with domain_errors("memory"):
            answer = await self._stub.ListTurns(request, metadata=_scope(key.tenant))
        return convert.page_from(answer)

    async def clear(self, key: SessionKey, backend: str = "") -> int:
        request = pb.ClearHistoryRequest(**_of(key, backend))
        with domain_errors("memory"):
            answer = await self._stub.ClearHistory(request, metadata=_scope(key.tenant))
        return int(answer.deleted_turns)

    async def context(
        self,
        key: SessionKey,
        strategy: Strategy,
        backend: str = "",
        besides: Besides = NOTHING_BESIDES,
    ) -> MemoryContext:
        check_key(key)
        check_principal(besides.principal)
        request = convert.strategy_to(strategy, key, backend, besides)
        scope = _scope(key.tenant, besides.principal)
        with domain_errors("memory"):
            answer = await self._stub.BuildContext(request, metadata=scope)
        return convert.context_from(answer)

    async def check(self, backend: str) -> None:
        with domain_errors("memory"):
            await self._stub.CheckBackend(
                memory_service_pb2.CheckBackendRequest(backend=backend),
                metadata=metadata_of(Caller()),
            )

    async def count(
        self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str, backend: str = ""
    ) -> None:
        wire = [pb.TokenCount(index=index, tokens=tokens) for index, tokens in counts]
        request = pb.SetTokenCountsRequest(**_of(key, backend), counts=wire, counted_by=by)
        with domain_errors("memory"):
            await self._stub.SetTokenCounts(request, metadata=_scope(key.tenant))

    async def backlog(self, key: SessionKey, strategy: Strategy, backend: str = "") -> Backlog:
        threshold = strategy.summary_threshold
        request = pb.GetBacklogRequest(**_of(key, backend), summary_threshold=threshold)
        with domain_errors("memory"):
            answer = await self._stub.GetBacklog(request, metadata=_scope(key.tenant))
        return convert.backlog_from(answer)

    async def summarise(self, key: SessionKey, summary: Summary, backend: str = "") -> bool:
        request = pb.UpdateSummaryRequest(
            **_of(key, backend), summary=summary.text, until=summary.until, etag=summary.etag
        )
        with domain_errors("memory"):
            answer = await self._stub.UpdateSummary(request, metadata=_scope(key.tenant))
        return bool(answer.updated)

    async def sessions(
        self, tenant: str, agent: str, page_size: int = 0, page_token: str = ""
    ) -> SessionPage:
        check_name("tenant", tenant)
        request = pb.ListSessionsRequest(agent=agent, page_size=page_size, page_token=page_token)
        with domain_errors("memory"):
            answer = await self._stub.ListSessions(request, metadata=_scope(tenant))
        return convert.sessions_from(answer, tenant)

    async def export(
        self, tenant: str, principal: str, page_size: int = 0, page_token: str = ""
    ) -> RecordPage:
        check_name("tenant", tenant)
        request = principal_pb2.ExportPrincipalRequest(
            principal=principal, page_size=page_size, page_token=page_token
        )
        with domain_errors("memory"):
            answer = await self._stub.ExportPrincipal(request, metadata=_scope(tenant))
        return convert.records_from(answer, tenant)

    async def erase(self, tenant: str, principal: str) -> Erased:
        check_name("tenant", tenant)
        request = principal_pb2.ErasePrincipalRequest(principal=principal)
        with domain_errors("memory"):
            answer = await self._stub.ErasePrincipal(request, metadata=_scope(tenant))
        return Erased(answer.deleted_turns, answer.deleted_memories, answer.deleted_episodes)


def _of(key: SessionKey, backend: str) -> dict[str, Any]:
    """What every request about a session says of it."""
    check_key(key)
    return {"agent": key.agent, "session": key.session, "backend": backend}


def _scope(tenant: str, principal: str = "") -> list[tuple[str, str]]:
    # Without it the far side would take the call for the default tenant's.
    return metadata_of(Caller(tenant, principal))
