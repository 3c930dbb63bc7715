"""Episodes between protobuf and the domain."""

from collections.abc import Iterable

from astromesh.memory.v1 import episodic_pb2 as pb

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodeOutcome,
    EpisodePage,
    EpisodeScope,
    EpisodeType,
    EpisodicSelection,
    Note,
    RunTold,
)
from servers.domain.memory import SessionKey
from servers.kernel.chat_wire import refused, time_from, time_to

_TYPES = {
    pb.EPISODE_TYPE_RUN: EpisodeType.RUN,
    pb.EPISODE_TYPE_TOOL_CALL: EpisodeType.TOOL_CALL,
    pb.EPISODE_TYPE_FEEDBACK: EpisodeType.FEEDBACK,
    pb.EPISODE_TYPE_CUSTOM: EpisodeType.CUSTOM,
}
_WIRE_TYPES = {kind: number for number, kind in _TYPES.items()}
_OUTCOMES = {
    pb.EPISODE_OUTCOME_UNSPECIFIED: EpisodeOutcome.NONE,
    pb.EPISODE_OUTCOME_SUCCEEDED: EpisodeOutcome.SUCCEEDED,
    pb.EPISODE_OUTCOME_FAILED: EpisodeOutcome.FAILED,
    pb.EPISODE_OUTCOME_BLOCKED: EpisodeOutcome.BLOCKED,
    pb.EPISODE_OUTCOME_CANCELLED: EpisodeOutcome.CANCELLED,
    pb.EPISODE_OUTCOME_TIMED_OUT: EpisodeOutcome.TIMED_OUT,
    pb.EPISODE_OUTCOME_REJECTED: EpisodeOutcome.REJECTED,
    pb.EPISODE_OUTCOME_UNKNOWN: EpisodeOutcome.UNKNOWN,
}
_WIRE_OUTCOMES = {outcome: number for number, outcome in _OUTCOMES.items()}
_SCOPES = {
    pb.EPISODE_SCOPE_UNSPECIFIED: EpisodeScope.PRINCIPAL,
    pb.EPISODE_SCOPE_PRINCIPAL: EpisodeScope.PRINCIPAL,
    pb.EPISODE_SCOPE_SESSION: EpisodeScope.SESSION,
    pb.EPISODE_SCOPE_AGENT: EpisodeScope.AGENT,
}
_WIRE_SCOPES = {scope: number for number, scope in _SCOPES.items()}


# -- requests ------------------------------------------------------------------------------


def note_from(request: pb.RecordEpisodeRequest, tenant: str, principal: str) -> Note:
    episode = Episode(
        type=_type_from(request.type, "type"),
        text=request.text,
        name=request.name,
        rating=request.rating if request.HasField("rating") else None,
        metadata=dict(request.metadata),
        agent=request.agent,
        session=request.session,
        principal=principal,
        run_id=request.run_id,
    )
    ttl = request.ttl_seconds if request.HasField("ttl_seconds") else None
    return Note(tenant, episode, request.request_id, ttl, request.backend)


def note_to(note: Note) -> pb.RecordEpisodeRequest:
    said = note.episode
    return pb.RecordEpisodeRequest(
        agent=said.agent,
        type=_WIRE_TYPES[said.type],
        run_id=said.run_id,
        session=said.session,
        name=said.name,
        text=said.text,
        rating=said.rating,
        metadata=said.metadata,
        request_id=note.request_id,
        ttl_seconds=note.ttl,
        backend=note.backend,
    )


def told_from(request: pb.RecordEpisodesRequest, tenant: str, principal: str) -> RunTold:
    return RunTold(
        SessionKey(tenant, request.agent, request.session),
        request.run_id,
        request.attempt,
        tuple(
            _happened_from(each, f"episodes[{number}]")
            for number, each in enumerate(request.episodes)
        ),
        principal,
        request.ttl_seconds,
        request.backend,
    )


def told_to(told: RunTold) -> pb.RecordEpisodesRequest:
    return pb.RecordEpisodesRequest(
        agent=told.key.agent,
        session=told.key.session,
        run_id=told.run_id,
        attempt=told.attempt,
        episodes=[episode_to(each) for each in told.episodes],
        ttl_seconds=told.ttl,
        backend=told.backend,
    )


def filter_from(
    request: pb.ListEpisodesRequest | pb.DeleteEpisodesRequest, tenant: str
) -> EpisodeFilter:
    return EpisodeFilter(
        tenant,
        request.agent,
        request.session,
        request.run_id,
        types_from(request.types, "types"),
        tuple(_outcome_from(each, "outcomes") for each in request.outcomes),
        request.name,
        request.principal if request.HasField("principal") else None,
        time_from(request.start_time) if request.HasField("start_time") else None,
        time_from(request.end_time) if request.HasField("end_time") else None,
    )


def filter_to(
    asked: EpisodeFilter, request: pb.ListEpisodesRequest | pb.DeleteEpisodesRequest
) -> None:
    """Into the request, which has the rest already."""
    request.agent, request.session = asked.agent, asked.session
    request.run_id, request.name = asked.run_id, asked.name
    request.types.extend(_WIRE_TYPES[each] for each in asked.types)
    request.outcomes.extend(_WIRE_OUTCOMES[each] for each in asked.outcomes)
    if asked.principal is not None:
        request.principal = asked.principal
    if asked.since is not None:
        request.start_time.CopyFrom(time_to(asked.since))
    if asked.until is not None:
        request.end_time.CopyFrom(time_to(asked.until))


def selection_from(wire: pb.EpisodicSelection) -> EpisodicSelection:
    if wire.scope not in _SCOPES:
        raise refused("episodic.scope", f"{wire.scope} is no scope")
    usual = EpisodicSelection()
    types = types_from(wire.types, "episodic.types")
    most = wire.max_results or usual.max_results
    return EpisodicSelection(most, types, _SCOPES[wire.scope], wire.backend)


def selection_to(selection: EpisodicSelection) -> pb.EpisodicSelection:
    return pb.EpisodicSelection(
        max_results=selection.max_results,
        types=[_WIRE_TYPES[each] for each in selection.types],
        scope=_WIRE_SCOPES[selection.scope],
        backend=selection.backend,
    )


# -- answers -------------------------------------------------------------------------------


def page_from(response: pb.ListEpisodesResponse) -> EpisodePage:
    return EpisodePage(episodes_from(response.episodes), response.next_page_token)


def page_to(page: EpisodePage) -> pb.ListEpisodesResponse:
    episodes = [episode_to(each) for each in page.episodes]
    return pb.ListEpisodesResponse(episodes=episodes, next_page_token=page.next_page_token)


def episodes_from(wire: Iterable[pb.Episode]) -> tuple[Episode, ...]:
    return tuple(episode_from(each) for each in wire)


def episode_from(wire: pb.Episode, field: str = "episode") -> Episode:
    happened = _happened_from(wire, field)
    return Episode(
        type=happened.type,
        text=happened.text,
        result=happened.result,
        name=happened.name,
        outcome=happened.outcome,
        reason=happened.reason,
        duration=happened.duration,
        rating=happened.rating,
        metadata=happened.metadata,
        created_at=happened.created_at,
        expires_at=time_from(wire.expire_time) if wire.HasField("expire_time") else None,
        id=wire.id,
        agent=wire.agent,
        session=wire.session,
        principal=wire.principal,
        run_id=wire.run_id,
        backend=wire.backend,
    )


def _happened_from(wire: pb.Episode, field: str) -> Episode:
    """What happened, without where it belongs."""
    return Episode(
        type=_type_from(wire.type, f"{field}.type"),
        text=wire.text,
        result=wire.result,
        name=wire.name,
        outcome=_outcome_from(wire.outcome, f"{field}.outcome"),
        reason=wire.reason,
        duration=wire.duration_seconds,
        rating=wire.rating if wire.HasField("rating") else None,
        metadata=dict(wire.metadata),
        created_at=time_from(wire.create_time),
    )


def episode_to(episode: Episode) -> pb.Episode:
    ends = episode.expires_at
    return pb.Episode(
        id=episode.id,
        agent=episode.agent,
        session=episode.session,
        principal=episode.principal,
        run_id=episode.run_id,
        type=_WIRE_TYPES[episode.type],
        name=episode.name,
        text=episode.text,
        result=episode.result,
        outcome=_WIRE_OUTCOMES[episode.outcome],
        reason=episode.reason,
        duration_seconds=episode.duration,
        rating=episode.rating,
        metadata=episode.metadata,
        create_time=time_to(episode.created_at),
        expire_time=None if ends is None else time_to(ends),
        backend=episode.backend,
    )


def types_from(wire: Iterable["pb.EpisodeType.ValueType"], field: str) -> tuple[EpisodeType, ...]:
    return tuple(_type_from(each, field) for each in wire)


def _type_from(number: "pb.EpisodeType.ValueType", field: str) -> EpisodeType:
    if number not in _TYPES:
        raise refused(field, f"{number} is no type: RUN, TOOL_CALL, FEEDBACK or CUSTOM")
    return _TYPES[number]


def _outcome_from(number: "pb.EpisodeOutcome.ValueType", field: str) -> EpisodeOutcome:
    if number not in _OUTCOMES:
        raise refused(field, f"{number} is no outcome")
    return _OUTCOMES[number]
