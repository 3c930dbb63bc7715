"""Memory's values between protobuf and the domain."""

from typing import Protocol

from astromesh.memory.v1 import memory_service_pb2 as pb

from servers.domain.memory import MemoryContext, SessionKey, Strategy, Turn, TurnPage
from servers.kernel.chat_wire import (
    message_from,
    message_to,
    messages_from,
    messages_to,
    time_from,
    time_to,
)


class AboutASession(Protocol):
    """Any request that names an agent and a session."""

    agent: str
    session: str


def key_from(tenant: str, request: AboutASession) -> SessionKey:
    return SessionKey(tenant, request.agent, request.session)


def strategy_from(request: pb.BuildContextRequest) -> Strategy:
    return Strategy(request.strategy, request.max_turns)


def page_from(response: pb.ListTurnsResponse) -> TurnPage:
    return TurnPage(tuple(_turn_from(turn) for turn in response.turns), response.next_page_token)


def page_to(page: TurnPage) -> pb.ListTurnsResponse:
    return pb.ListTurnsResponse(
        turns=[_turn_to(turn) for turn in page.turns], next_page_token=page.next_page_token
    )


def context_from(response: pb.BuildContextResponse) -> MemoryContext:
    return MemoryContext(messages_from(response.messages), response.total_turns)


def context_to(context: MemoryContext) -> pb.BuildContextResponse:
    return pb.BuildContextResponse(
        messages=messages_to(context.messages), total_turns=context.total_turns
    )


def _turn_from(wire: pb.Turn) -> Turn:
    return Turn(wire.index, message_from(wire.message), time_from(wire.create_time), wire.run_id)


def _turn_to(turn: Turn) -> pb.Turn:
    return pb.Turn(
        index=turn.index,
        message=message_to(turn.message),
        create_time=time_to(turn.created_at),
        run_id=turn.run_id,
    )
