"""Chats between the wire and the domain. Total functions, no decisions, no I/O."""

from typing import TypeAlias

from astromesh.router.v1 import candidate_pb2, texts_pb2
from astromesh.router.v1 import completion_pb2 as pb

from servers.domain.caller import Account, Caller
from servers.domain.chat import (
    ChatRequest,
    Completion,
    Finish,
    ModelRef,
    ModelUsage,
    Notice,
    ReasoningPiece,
    Speaker,
    Step,
    TextPiece,
)
from servers.kernel import chat_wire

Question: TypeAlias = pb.CompleteRequest | pb.StreamCompleteRequest
Charged: TypeAlias = Question | texts_pb2.EmbedRequest | texts_pb2.RerankRequest
NOBODY = Caller()


def request_from(wire: Question, caller: Caller = NOBODY) -> ChatRequest:
    return ChatRequest(
        chat_wire.messages_from(wire.messages),
        tuple(candidate_from(each) for each in wire.candidates),
        wire.strategy,
        chat_wire.tool_specs_from(wire.tools),
        chat_wire.sampling_from(wire.sampling),
        chat_wire.json_from(wire.output_schema) if wire.HasField("output_schema") else None,
        wire.hedge,
        wire.cache_ttl_seconds,
        account_from(wire, caller),
    )


def complete_to(request: ChatRequest) -> pb.CompleteRequest:
    wire = pb.CompleteRequest()
    _fill(wire, request)
    return wire


def stream_to(request: ChatRequest) -> pb.StreamCompleteRequest:
    wire = pb.StreamCompleteRequest()
    _fill(wire, request)
    return wire


def _fill(wire: Question, request: ChatRequest) -> None:
    wire.messages.extend(chat_wire.messages_to(request.messages))
    wire.candidates.extend(candidate_to(each) for each in request.candidates)
    wire.strategy = request.strategy
    wire.tools.extend(chat_wire.tool_specs_to(request.tools))
    wire.sampling.CopyFrom(chat_wire.sampling_to(request.sampling))
    if request.output_schema is not None:
        wire.output_schema.CopyFrom(chat_wire.json_to(request.output_schema))
    wire.hedge = request.hedge
    wire.cache_ttl_seconds = request.cache_ttl
    charge(wire, request.account)


def account_from(wire: Charged, caller: Caller) -> Account:
    """Tenant and principal are the caller's, verified; the rest it says itself."""
    return Account(caller.tenant, caller.principal, wire.agent, wire.session_id, wire.run_id)


def charge(wire: Charged, account: Account) -> None:
    """Tenant and principal travel as metadata."""
    wire.agent, wire.session_id, wire.run_id = account.agent, account.session, account.run


def candidate_from(wire: candidate_pb2.ModelCandidate) -> ModelRef:
    return ModelRef(
        wire.provider,
        wire.model,
        wire.endpoint,
        wire.api_key_env,
        wire.api_key,
        wire.timeout_seconds if wire.HasField("timeout_seconds") else None,
        wire.context_window if wire.HasField("context_window") else None,
        chat_wire.sampling_from(wire.sampling),
    )


def candidate_to(ref: ModelRef) -> candidate_pb2.ModelCandidate:
    return candidate_pb2.ModelCandidate(
        provider=ref.provider,
        model=ref.model,
        endpoint=ref.endpoint,
        api_key_env=ref.api_key_env,
        api_key=ref.api_key,
        timeout_seconds=ref.timeout,
        context_window=ref.context_window,
        sampling=chat_wire.sampling_to(ref.sampling),
    )


# -- answers -------------------------------------------------------------------------------


def completion_to(completion: Completion) -> pb.CompleteResponse:
    return pb.CompleteResponse(
        message=chat_wire.message_to(completion.message), finish=_finish_to(completion.finish)
    )


def completion_from(wire: pb.CompleteResponse) -> Completion:
    return Completion(chat_wire.message_from(wire.message), _finish_from(wire.finish))


def step_to(step: Step) -> pb.StreamCompleteResponse:
    match step:
        case TextPiece(text):
            return pb.StreamCompleteResponse(text=text)
        case ReasoningPiece(text):
            return pb.StreamCompleteResponse(reasoning=text)
        case Finish():
            return pb.StreamCompleteResponse(finish=_finish_to(step))
        case Speaker(provider, model):
            speaker = pb.Speaker(provider=provider, model=model)
            return pb.StreamCompleteResponse(speaker=speaker)


def step_from(wire: pb.StreamCompleteResponse) -> Step | None:
    """None for a step that a newer server knows and we don't."""
    match wire.WhichOneof("step"):
        case "text":
            return TextPiece(wire.text)
        case "reasoning":
            return ReasoningPiece(wire.reasoning)
        case "finish":
            return _finish_from(wire.finish)
        case "speaker":
            return Speaker(wire.speaker.provider, wire.speaker.model)
    return None


def _finish_to(finish: Finish) -> pb.Finish:
    return pb.Finish(
        reason=chat_wire.finish_reason_to(finish.reason),
        tool_calls=chat_wire.tool_calls_to(finish.tool_calls),
        usage=chat_wire.usage_to(finish.usage),
        provider=finish.provider,
        model=finish.model,
        besides=[_other_to(each) for each in finish.besides],
        emulated_tools=finish.emulated,
        cached=finish.cached,
        notices=[pb.Notice(reason=n.reason, message=n.message) for n in finish.notices],
    )


def _finish_from(wire: pb.Finish) -> Finish:
    return Finish(
        chat_wire.finish_reason_from(wire.reason),
        chat_wire.tool_calls_from(wire.tool_calls),
        chat_wire.usage_from(wire.usage),
        wire.provider,
        wire.model,
        tuple(_other_from(each) for each in wire.besides),
        wire.emulated_tools,
        wire.cached,
        tuple(Notice(each.reason, each.message) for each in wire.notices),
    )


def _other_to(other: ModelUsage) -> pb.OtherUsage:
    return pb.OtherUsage(
        provider=other.provider,
        model=other.model,
        calls=other.calls,
        usage=chat_wire.usage_to(other.usage),
    )


def _other_from(wire: pb.OtherUsage) -> ModelUsage:
    return ModelUsage(wire.provider, wire.model, wire.calls, chat_wire.usage_from(wire.usage))
