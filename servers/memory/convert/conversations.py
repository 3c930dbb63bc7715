"""Memory's values between protobuf and the domain."""

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import quote

from astromesh.memory.v1 import context_pb2, principal_pb2
from astromesh.memory.v1 import conversation_pb2 as pb

from servers.domain.memory import (
    Backlog,
    Details,
    MemoryContext,
    Recorded,
    RecordPage,
    SessionInfo,
    SessionKey,
    SessionPage,
    Strategy,
    Summary,
    Turn,
    TurnPage,
)
from servers.domain.semantic import NOTHING_BESIDES, Besides
from servers.kernel.chat_wire import (
    message_from,
    message_to,
    messages_from,
    messages_to,
    time_from,
    time_to,
)
from servers.memory.convert import episodes as convert_episodes
from servers.memory.convert import semantic as convert_semantic


class AboutASession(Protocol):
    """Any request that names an agent and a session."""

    agent: str
    session: str


def key_from(tenant: str, request: AboutASession) -> SessionKey:
    return SessionKey(tenant, request.agent, request.session)


# -- requests ------------------------------------------------------------------------------


def details_from(request: pb.AppendTurnsRequest, principal: str) -> Details:
    ttl = request.ttl_seconds if request.HasField("ttl_seconds") else None
    return Details(principal, tuple(request.tokens), request.counted_by, ttl, request.backend)


def strategy_from(request: context_pb2.BuildContextRequest) -> Strategy:
    return Strategy(
        request.strategy,
        request.max_turns,
        request.max_tokens,
        request.summary_threshold,
        request.counted_by,
    )


def strategy_to(
    strategy: Strategy, key: SessionKey, backend: str, besides: Besides = NOTHING_BESIDES
) -> context_pb2.BuildContextRequest:
    request = context_pb2.BuildContextRequest(
        agent=key.agent,
        session=key.session,
        strategy=strategy.name,
        max_turns=strategy.max_turns,
        max_tokens=strategy.max_tokens,
        summary_threshold=strategy.summary_threshold,
        counted_by=strategy.counted_by,
        backend=backend,
    )
    convert_semantic.put_besides(request, besides)
    return request


def counts_from(request: pb.SetTokenCountsRequest) -> list[tuple[int, int]]:
    return [(count.index, count.tokens) for count in request.counts]


def summary_from(request: pb.UpdateSummaryRequest) -> Summary:
    return Summary(request.summary, request.until, request.etag)


# -- answers -------------------------------------------------------------------------------


def page_from(response: pb.ListTurnsResponse) -> TurnPage:
    return TurnPage(_turns_from(response.turns), response.next_page_token)


def page_to(page: TurnPage) -> pb.ListTurnsResponse:
    turns = [_turn_to(turn) for turn in page.turns]
    return pb.ListTurnsResponse(turns=turns, next_page_token=page.next_page_token)


def context_from(response: context_pb2.BuildContextResponse) -> MemoryContext:
    return MemoryContext(
        messages_from(response.messages),
        response.total_turns,
        response.summary,
        _turns_from(response.uncounted),
        convert_semantic.memories_from(response.memories),
        convert_episodes.episodes_from(response.episodes),
        convert_semantic.failures_from(response.failures),
    )


def context_to(context: MemoryContext) -> context_pb2.BuildContextResponse:
    return context_pb2.BuildContextResponse(
        messages=messages_to(context.messages),
        total_turns=context.total_turns,
        summary=context.summary,
        uncounted=[_turn_to(turn) for turn in context.uncounted],
        memories=[convert_semantic.memory_to(each) for each in context.memories],
        episodes=[convert_episodes.episode_to(each) for each in context.episodes],
        failures=convert_semantic.failures_to(context.failures),
    )


def backlog_from(response: pb.GetBacklogResponse) -> Backlog:
    return Backlog(response.summary, _turns_from(response.turns), response.etag)


def backlog_to(backlog: Backlog) -> pb.GetBacklogResponse:
    turns = [_turn_to(turn) for turn in backlog.turns]
    return pb.GetBacklogResponse(summary=backlog.summary, turns=turns, etag=backlog.etag)


def sessions_from(response: pb.ListSessionsResponse, tenant: str) -> SessionPage:
    found = tuple(_session_from(session, tenant) for session in response.sessions)
    return SessionPage(found, response.next_page_token)


def sessions_to(page: SessionPage) -> pb.ListSessionsResponse:
    sessions = [_session_to(session) for session in page.sessions]
    return pb.ListSessionsResponse(sessions=sessions, next_page_token=page.next_page_token)


def records_from(response: principal_pb2.ExportPrincipalResponse, tenant: str) -> RecordPage:
    found = tuple(_record_from(tenant, record) for record in response.records)
    return RecordPage(found, response.next_page_token)


def records_to(page: RecordPage) -> principal_pb2.ExportPrincipalResponse:
    records = [_record_to(record) for record in page.records]
    return principal_pb2.ExportPrincipalResponse(
        records=records, next_page_token=page.next_page_token
    )


def _record_from(tenant: str, wire: principal_pb2.Record) -> Recorded:
    turn = _turn_from(wire.turn) if wire.HasField("turn") else None
    memory = convert_semantic.memory_from(wire.memory) if wire.HasField("memory") else None
    episode = convert_episodes.episode_from(wire.episode) if wire.HasField("episode") else None
    return Recorded(key_from(tenant, wire), turn, wire.backend, memory, episode)


def _record_to(record: Recorded) -> principal_pb2.Record:
    return principal_pb2.Record(
        agent=record.key.agent,
        session=record.key.session,
        turn=_turn_to(record.turn) if record.turn else None,
        backend=record.backend,
        memory=convert_semantic.memory_to(record.memory) if record.memory else None,
        episode=convert_episodes.episode_to(record.episode) if record.episode else None,
    )


def _turns_from(wire: Iterable[pb.Turn]) -> tuple[Turn, ...]:
    return tuple(_turn_from(turn) for turn in wire)


def _turn_from(wire: pb.Turn) -> Turn:
    return Turn(
        wire.index,
        message_from(wire.message),
        time_from(wire.create_time),
        wire.run_id,
        wire.principal,
        wire.tokens,
        wire.counted_by,
    )


def _turn_to(turn: Turn) -> pb.Turn:
    return pb.Turn(
        index=turn.index,
        message=message_to(turn.message),
        create_time=time_to(turn.created_at),
        run_id=turn.run_id,
        principal=turn.principal,
        tokens=turn.tokens,
        counted_by=turn.counted_by,
    )


def _session_from(wire: pb.Session, tenant: str) -> SessionInfo:
    return SessionInfo(
        key_from(tenant, wire),
        wire.turns,
        time_from(wire.create_time),
        time_from(wire.update_time),
        time_from(wire.expire_time) if wire.HasField("expire_time") else None,
        wire.summary,
        wire.backend,
    )


def _session_to(session: SessionInfo) -> pb.Session:
    return pb.Session(
        agent=session.key.agent,
        session=session.key.session,
        turns=session.turns,
        create_time=time_to(session.created_at),
        update_time=time_to(session.updated_at),
        expire_time=None if session.expires_at is None else time_to(session.expires_at),
        summary=session.summary,
        backend=session.backend,
    )


def remains_to(principal: str) -> list[str]:
    """What others may have of one whom this service has forgotten."""
    path = quote(principal, safe="")
    return [
        "runs, with what was asked and answered: AgentService.PurgeRuns "
        f"(DELETE /v1/principals/{path}/runs, astromesh principals erase)",
        "documents of RAG pipelines that name the principal in their acl: "
        "RagService.DeleteDocument",
        "what calls have used, without any text, under the principal's name: until "
        "spec.usage.keep_days of runtime.yaml are over",
    ]
