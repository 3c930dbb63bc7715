"""MemoryService over gRPC: decode, delegate, encode."""

from astromesh.memory.v1 import context_pb2, episodic_pb2, memory_service_pb2, principal_pb2
from astromesh.memory.v1 import conversation_pb2 as pb

from servers.domain.memory import SessionKey, Strategy
from servers.kernel.calls import Context, caller_from, deadline_from
from servers.kernel.chat_wire import messages_from
from servers.memory.convert import conversations as convert
from servers.memory.convert import episodes as convert_episodes
from servers.memory.convert import semantic as convert_semantic
from servers.memory.servicer_semantic import SemanticServicer


class MemoryServicer(SemanticServicer):
    async def AppendTurns(
        self, request: pb.AppendTurnsRequest, context: Context
    ) -> pb.AppendTurnsResponse:
        messages = messages_from(request.messages)
        details = convert.details_from(request, caller_from(context).principal)
        key = _key(request, context)
        total = await self._memory.append(key, messages, request.run_id, details)
        return pb.AppendTurnsResponse(total_turns=total)

    async def ListTurns(
        self, request: pb.ListTurnsRequest, context: Context
    ) -> pb.ListTurnsResponse:
        key, page = _key(request, context), (request.page_size, request.page_token)
        return convert.page_to(await self._memory.turns(key, *page, request.backend))

    async def ClearHistory(
        self, request: pb.ClearHistoryRequest, context: Context
    ) -> pb.ClearHistoryResponse:
        deleted = await self._memory.clear(_key(request, context), request.backend)
        return pb.ClearHistoryResponse(deleted_turns=deleted)

    async def BuildContext(
        self, request: context_pb2.BuildContextRequest, context: Context
    ) -> context_pb2.BuildContextResponse:
        key, strategy = _key(request, context), convert.strategy_from(request)
        principal, left = caller_from(context).principal, deadline_from(context)
        besides = convert_semantic.besides_from(request, principal, left)
        found = await self._memory.context(key, strategy, request.backend, besides)
        return convert.context_to(found)

    async def CheckBackend(
        self, request: memory_service_pb2.CheckBackendRequest, context: Context
    ) -> memory_service_pb2.CheckBackendResponse:
        checked = self._memory.episodes if request.episodes else self._memory
        await checked.check(request.backend)
        return memory_service_pb2.CheckBackendResponse()

    async def SetTokenCounts(
        self, request: pb.SetTokenCountsRequest, context: Context
    ) -> pb.SetTokenCountsResponse:
        key, counts = _key(request, context), convert.counts_from(request)
        await self._memory.count(key, counts, request.counted_by, request.backend)
        return pb.SetTokenCountsResponse()

    async def GetBacklog(
        self, request: pb.GetBacklogRequest, context: Context
    ) -> pb.GetBacklogResponse:
        strategy = Strategy("summary", summary_threshold=request.summary_threshold)
        key = _key(request, context)
        return convert.backlog_to(await self._memory.backlog(key, strategy, request.backend))

    async def UpdateSummary(
        self, request: pb.UpdateSummaryRequest, context: Context
    ) -> pb.UpdateSummaryResponse:
        key, summary = _key(request, context), convert.summary_from(request)
        updated = await self._memory.summarise(key, summary, request.backend)
        return pb.UpdateSummaryResponse(updated=updated)

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        tenant, page = caller_from(context).tenant, (request.page_size, request.page_token)
        return convert.sessions_to(await self._memory.sessions(tenant, request.agent, *page))

    async def ExportPrincipal(
        self, request: principal_pb2.ExportPrincipalRequest, context: Context
    ) -> principal_pb2.ExportPrincipalResponse:
        tenant, page = caller_from(context).tenant, (request.page_size, request.page_token)
        return convert.records_to(await self._memory.export(tenant, request.principal, *page))

    async def ErasePrincipal(
        self, request: principal_pb2.ErasePrincipalRequest, context: Context
    ) -> principal_pb2.ErasePrincipalResponse:
        erased = await self._memory.erase(caller_from(context).tenant, request.principal)
        return principal_pb2.ErasePrincipalResponse(
            deleted_turns=erased.turns,
            deleted_memories=erased.memories,
            deleted_episodes=erased.episodes,
            remains=convert.remains_to(request.principal),
        )

    # -- episodes --------------------------------------------------------------------------

    async def RecordEpisode(
        self, request: episodic_pb2.RecordEpisodeRequest, context: Context
    ) -> episodic_pb2.RecordEpisodeResponse:
        caller = caller_from(context)
        note = convert_episodes.note_from(request, caller.tenant, caller.principal)
        episode = convert_episodes.episode_to(await self._memory.episodes.add(note))
        return episodic_pb2.RecordEpisodeResponse(episode=episode)

    async def RecordEpisodes(
        self, request: episodic_pb2.RecordEpisodesRequest, context: Context
    ) -> episodic_pb2.RecordEpisodesResponse:
        caller = caller_from(context)
        told = convert_episodes.told_from(request, caller.tenant, caller.principal)
        added = await self._memory.episodes.record(told)
        return episodic_pb2.RecordEpisodesResponse(added=added)

    async def ListEpisodes(
        self, request: episodic_pb2.ListEpisodesRequest, context: Context
    ) -> episodic_pb2.ListEpisodesResponse:
        asked = convert_episodes.filter_from(request, caller_from(context).tenant)
        page = (request.page_size, request.page_token)
        found = await self._memory.episodes.list(asked, *page, request.backend)
        return convert_episodes.page_to(found)

    async def GetEpisode(
        self, request: episodic_pb2.GetEpisodeRequest, context: Context
    ) -> episodic_pb2.GetEpisodeResponse:
        named = (caller_from(context).tenant, request.agent, request.episode_id, request.backend)
        episode = convert_episodes.episode_to(await self._memory.episodes.get(*named))
        return episodic_pb2.GetEpisodeResponse(episode=episode)

    async def DeleteEpisode(
        self, request: episodic_pb2.DeleteEpisodeRequest, context: Context
    ) -> episodic_pb2.DeleteEpisodeResponse:
        named = (caller_from(context).tenant, request.agent, request.episode_id, request.backend)
        await self._memory.episodes.remove(*named)
        return episodic_pb2.DeleteEpisodeResponse()

    async def DeleteEpisodes(
        self, request: episodic_pb2.DeleteEpisodesRequest, context: Context
    ) -> episodic_pb2.DeleteEpisodesResponse:
        asked = convert_episodes.filter_from(request, caller_from(context).tenant)
        deleted = await self._memory.episodes.delete(asked, request.all, request.backend)
        return episodic_pb2.DeleteEpisodesResponse(deleted_episodes=deleted)


def _key(request: convert.AboutASession, context: Context) -> SessionKey:
    return convert.key_from(caller_from(context).tenant, request)
