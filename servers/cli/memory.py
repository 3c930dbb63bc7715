"""What agents remember, as `astromesh memory` shows and changes it."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from astromesh.agents.v1 import run_pb2
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from astromesh.common.v1 import chat_pb2
from astromesh.memory.v1 import conversation_pb2 as pb
from astromesh.memory.v1 import episodic_pb2, principal_pb2
from astromesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from google.protobuf.timestamp_pb2 import Timestamp

from servers.cli.choices import EpisodeKind, EpisodeResult, Output
from servers.cli.client import PATIENCE, connected
from servers.cli.known_agents import check_known
from servers.cli.output import Columns, show_all, show_one
from servers.cli.paging import paged
from servers.cli.spending import moment
from servers.cli.text import counted

_TYPE, _OUTCOME = episodic_pb2.EpisodeType, episodic_pb2.EpisodeOutcome
_SHOWN = 100  # characters of a text in a table


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which episodes."""

    session: str = ""
    run: str = ""
    kinds: tuple[EpisodeKind, ...] = ()
    outcomes: tuple[EpisodeResult, ...] = ()
    name: str = ""
    principal: str = ""
    since: str = ""
    until: str = ""
    backend: str = ""

    def request(self, agent: str, now: datetime) -> episodic_pb2.ListEpisodesRequest:
        request = episodic_pb2.ListEpisodesRequest(
            agent=agent,
            session=self.session,
            run_id=self.run,
            types=[_TYPE.Value(f"EPISODE_TYPE_{kind.name}") for kind in self.kinds],
            outcomes=[_OUTCOME.Value(f"EPISODE_OUTCOME_{each.name}") for each in self.outcomes],
            name=self.name,
            principal=self.principal or None,
            backend=self.backend,
        )
        if self.since:
            request.start_time.FromDatetime(moment(self.since, now))
        if self.until:
            request.end_time.FromDatetime(moment(self.until, now))
        return request


async def list_sessions(address: str, agent: str, limit: int, form: Output) -> None:
    async with connected(address) as channel:
        request = pb.ListSessionsRequest(agent=agent)
        ask = MemoryServiceStub(channel).ListSessions
        found = [each async for each in paged(ask, request, "sessions", limit)]
        if not found:
            await check_known(channel, agent)
    show_all(found, _SESSIONS, form)


async def show_history(
    address: str, agent: str, session: str, backend: str, limit: int, form: Output
) -> None:
    async with connected(address) as channel:
        request = pb.ListTurnsRequest(agent=agent, session=session, backend=backend)
        ask = MemoryServiceStub(channel).ListTurns
        found = [each async for each in paged(ask, request, "turns", limit)]
        if not found:
            await check_known(channel, agent)
    if found or form is not Output.TABLE:
        show_all(found, _TURNS, form)
    else:
        print(f"nothing is kept of session {session!r} of agent {agent!r}", file=sys.stderr)


async def clear(address: str, agent: str, session: str, backend: str) -> None:
    async with connected(address) as channel:
        request = pb.ClearHistoryRequest(agent=agent, session=session, backend=backend)
        answer = await MemoryServiceStub(channel).ClearHistory(request, timeout=PATIENCE)
    print(f"{counted(answer.deleted_turns, 'turn')} forgotten")


async def export(address: str, principal: str, form: Output) -> None:
    async with connected(address) as channel:
        request = principal_pb2.ExportPrincipalRequest(principal=principal)
        ask = MemoryServiceStub(channel).ExportPrincipal
        found = [each async for each in paged(ask, request, "records", None)]
    show_all(found, _RECORDS, form)


async def erase(address: str, principal: str) -> None:
    async with connected(address) as channel:
        request = principal_pb2.ErasePrincipalRequest(principal=principal)
        answer = await MemoryServiceStub(channel).ErasePrincipal(request, timeout=PATIENCE)
    print(f"{forgotten(answer)} forgotten")
    for each in answer.remains:
        print(f"there may be {each}", file=sys.stderr)


def forgotten(answer: principal_pb2.ErasePrincipalResponse) -> str:
    return (
        f"{answer.deleted_turns} turns, {answer.deleted_memories} memories, "
        f"{answer.deleted_episodes} episodes"
    )


async def list_episodes(address: str, agent: str, wanted: Wanted, limit: int, form: Output) -> None:
    request = wanted.request(agent, datetime.now(UTC))
    async with connected(address) as channel:
        ask = MemoryServiceStub(channel).ListEpisodes
        found = [each async for each in paged(ask, request, "episodes", limit)]
        if not found:
            await check_known(channel, agent)
    show_all(found, _EPISODES, form)


async def give_feedback(
    address: str, run_id: str, comment: str, rating: float | None, form: Output
) -> None:
    async with connected(address) as channel:
        get = run_pb2.GetRunRequest(run=run_id)
        run = await AgentServiceStub(channel).GetRun(get, timeout=PATIENCE)
        request = episodic_pb2.RecordEpisodeRequest(
            agent=run.agent,
            type=episodic_pb2.EPISODE_TYPE_FEEDBACK,
            run_id=run_id,
            session=run.session_id,
            text=comment,
            rating=rating,
        )
        answer = await MemoryServiceStub(channel).RecordEpisode(request, timeout=PATIENCE)
    show_one(answer.episode, _EPISODE, form)


# -- tables --------------------------------------------------------------------------------


def _time(when: Timestamp) -> str:
    if not when.seconds:
        return ""
    return datetime.fromtimestamp(when.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _role(message: chat_pb2.Message) -> str:
    return chat_pb2.Role.Name(message.role).removeprefix("ROLE_").lower()


def _said(message: chat_pb2.Message) -> str:
    calls = (f"{call.name}({call.arguments})" for call in message.tool_calls)
    return _short(" ".join((message.text, *calls)))


def _kind(episode: episodic_pb2.Episode) -> str:
    name = _TYPE.Name(episode.type).removeprefix("EPISODE_TYPE_").lower()
    return f"{name} {episode.name}".strip()


def _outcome(episode: episodic_pb2.Episode) -> str:
    if episode.HasField("rating"):
        return f"{episode.rating:g}"
    name = _OUTCOME.Name(episode.outcome)
    name = name.removeprefix("EPISODE_OUTCOME_").lower()
    return "" if name == "unspecified" else " ".join(filter(None, (name, episode.reason)))


def _took(episode: episodic_pb2.Episode) -> str:
    return f"{episode.duration_seconds:.1f} s" if episode.duration_seconds else ""


def _what(record: principal_pb2.Record) -> str:
    kinds = (field for field in ("turn", "memory", "episode") if record.HasField(field))
    return next(kinds, "")


def _when(record: principal_pb2.Record) -> str:
    return _time(getattr(record, _what(record)).create_time)


def _text(record: principal_pb2.Record) -> str:
    if record.HasField("turn"):
        return _said(record.turn.message)
    return _short(getattr(record, _what(record)).text)


_SESSIONS: Columns = {
    "SESSION": lambda session: session.session,
    "TURNS": lambda session: session.turns,
    "LAST TURN": lambda session: _time(session.update_time),
    "ENDS": lambda session: _time(session.expire_time),
    "BACKEND": lambda session: session.backend,
    "SUMMARY": lambda session: _short(session.summary),
}
_TURNS: Columns = {
    "TURN": lambda turn: turn.index,
    "TIME": lambda turn: _time(turn.create_time),
    "WHO": lambda turn: _role(turn.message),
    "TEXT": lambda turn: _said(turn.message),
}
_RECORDS: Columns = {
    "AGENT": lambda record: record.agent,
    "SESSION": lambda record: record.session,
    "BACKEND": lambda record: record.backend,
    "WHAT": _what,
    "TIME": _when,
    "TEXT": _text,
}
_EPISODES: Columns = {
    "TIME": lambda episode: _time(episode.create_time),
    "WHAT": _kind,
    "OUTCOME": _outcome,
    "TOOK": _took,
    "SESSION": lambda episode: episode.session,
    "RUN": lambda episode: episode.run_id,
    "TEXT": lambda episode: _short(episode.text),
}
_EPISODE: Columns = {
    "episode": lambda episode: episode.id,
    "agent": lambda episode: episode.agent,
    "session": lambda episode: episode.session,
    "run": lambda episode: episode.run_id,
    "what": _kind,
    "rating": _outcome,
    "text": lambda episode: episode.text,
    "ends": lambda episode: _time(episode.expire_time),
    "backend": lambda episode: episode.backend,
}
