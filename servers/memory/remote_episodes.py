"""`Episodes` answered by another process: same calls, same values, same errors."""

from astromesh.memory.v1 import episodic_pb2 as pb
from astromesh.memory.v1 import memory_service_pb2
from astromesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub

from servers.domain.caller import Caller
from servers.domain.episodes import Episode, EpisodeFilter, EpisodePage, Note, RunTold
from servers.kernel.calls import metadata_of
from servers.kernel.status import domain_errors
from servers.memory.convert import episodes as convert
from servers.memory.episode_checks import check_filter, check_note, check_one, check_told
from servers.memory.names import check_principal


class RemoteEpisodes:
    def __init__(self, stub: MemoryServiceStub) -> None:
        self._stub = stub

    async def record(self, told: RunTold) -> int:
        check_told(told)  # not every text can travel
        scope = metadata_of(Caller(told.key.tenant, told.principal))
        with domain_errors("memory"):
            answer = await self._stub.RecordEpisodes(convert.told_to(told), metadata=scope)
        return int(answer.added)

    async def add(self, note: Note) -> Episode:
        check_note(note)
        check_principal(note.episode.principal)
        scope = metadata_of(Caller(note.tenant, note.episode.principal))
        with domain_errors("memory"):
            answer = await self._stub.RecordEpisode(convert.note_to(note), metadata=scope)
        return convert.episode_from(answer.episode)

    async def list(
        self, asked: EpisodeFilter, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> EpisodePage:
        check_filter(asked)
        request = pb.ListEpisodesRequest(
            page_size=page_size, page_token=page_token, backend=backend
        )
        convert.filter_to(asked, request)
        with domain_errors("memory"):
            answer = await self._stub.ListEpisodes(
                request, metadata=metadata_of(Caller(asked.tenant))
            )
        return convert.page_from(answer)

    async def get(self, tenant: str, agent: str, id: str, backend: str = "") -> Episode:
        check_one(tenant, agent, id)
        request = pb.GetEpisodeRequest(agent=agent, episode_id=id, backend=backend)
        with domain_errors("memory"):
            answer = await self._stub.GetEpisode(request, metadata=metadata_of(Caller(tenant)))
        return convert.episode_from(answer.episode)

    async def remove(self, tenant: str, agent: str, id: str, backend: str = "") -> None:
        check_one(tenant, agent, id)
        request = pb.DeleteEpisodeRequest(agent=agent, episode_id=id, backend=backend)
        with domain_errors("memory"):
            await self._stub.DeleteEpisode(request, metadata=metadata_of(Caller(tenant)))

    async def delete(
        self, asked: EpisodeFilter, everything: bool = False, backend: str = ""
    ) -> int:
        check_filter(asked)
        request = pb.DeleteEpisodesRequest(all=everything, backend=backend)
        convert.filter_to(asked, request)
        with domain_errors("memory"):
            answer = await self._stub.DeleteEpisodes(
                request, metadata=metadata_of(Caller(asked.tenant))
            )
        return int(answer.deleted_episodes)

    async def check(self, backend: str) -> None:
        request = memory_service_pb2.CheckBackendRequest(backend=backend, episodes=True)
        with domain_errors("memory"):
            await self._stub.CheckBackend(request, metadata=metadata_of(Caller()))
