"""Does and records the steps of one run: model calls through the router, tool calls."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter

from servers.agents.runs.journal import Journal
from servers.agents.runs.replay import Replay
from servers.agents.runs.tally import Tally
from servers.domain.caller import Account, Caller
from servers.domain.chat import (
    ChatRequest,
    Finish,
    Json,
    Message,
    ModelRef,
    ReasoningPiece,
    Role,
    Text,
    TextPiece,
    ToolSpec,
    Usage,
)
from servers.domain.runs import (
    ModelReplied,
    Noticed,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from servers.domain.services import Router, Tools
from servers.domain.tools import Outcome, ToolRequest
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError
from servers.kernel.telemetry import span


@dataclass(frozen=True, slots=True)
class Models:
    """Who answers in a role, and how they are ranked."""

    candidates: tuple[ModelRef, ...]
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What an agent says of a tool it may use."""

    idempotent: bool
    timeout: float | None = None
    max_result_tokens: int | None = None
    rate_limit: Json | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with."""

    router: Router
    tools: Tools
    models: Mapping[str, Models]  # by role; "default" is always there
    tool_limits: Mapping[str, ToolLimits]
    hedge: bool = False
    cache_ttl: float = 0.0  # seconds


class RecordedSteps:
    """`patterns.ports.Steps` for one run."""

    def __init__(
        self, caller: Caller, account: Account, means: Means, journal: Journal, replay: Replay
    ) -> None:
        self._caller = caller
        self._account, self._agent = account, account.agent
        self._means = means
        self._journal = journal
        self._replay = replay
        self._model_calls = 0
        self._said: list[str] = []
        self._thought: list[str] = []
        self.tally = Tally()
        self.iterations = 0

    @property
    def said(self) -> str:
        """What the model has said in its last call so far."""
        return "".join(self._said)

    def begin_iteration(self) -> None:
        self.iterations += 1

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        role: str = "default",
        output_schema: Json | None = None,
    ) -> ModelReplied:
        self._model_calls += 1
        if recorded := self._replay.reply(self._model_calls):
            self._said = [recorded.message.text]
            self.tally.add(recorded.finish)
            return recorded
        models = self._means.models.get(role) or self._means.models["default"]
        request = ChatRequest(
            tuple(messages),
            models.candidates,
            models.strategy,
            tuple(tools),
            output_schema=output_schema,
            hedge=self._means.hedge,
            cache_ttl=self._means.cache_ttl,
            account=self._account,
        )
        began = perf_counter()
        finish = await self._listen(request)
        message = Message(
            Role.ASSISTANT,
            (Text(self.said),) if self._said else (),
            finish.tool_calls,
            reasoning="".join(self._thought),
        )
        reply = ModelReplied(self._model_calls, message, finish, perf_counter() - began)
        self.tally.add(finish)
        _measure_model(self._agent, reply)
        self._journal.emit(reply)
        self._journal.emit(UsageReported(self.tally.models))
        for notice in finish.notices:
            self._journal.emit(Noticed(notice.reason, notice.message))
        return reply

    async def _listen(self, request: ChatRequest) -> Finish:
        self._said, self._thought = [], []
        emit, call = self._journal.emit, self._model_calls
        try:
            with span("chat", {telemetry.OPERATION: "chat", telemetry.AGENT: self._agent}):
                async with aclosing(self._means.router.stream(request)) as steps:
                    async for step in steps:
                        match step:
                            case TextPiece(text):
                                self._said.append(text)
                                emit(TextDelta(text, call))
                            case ReasoningPiece(text):
                                self._thought.append(text)
                                emit(ReasoningDelta(text, call))
                            case Finish():
                                return step
        except BaseException as error:
            self._count_cut_off(request, error)
            raise
        raise AssertionError("a stream ends with Finish or raises")

    def _count_cut_off(self, request: ChatRequest, error: BaseException) -> None:
        """A call that was cut off was paid for, too: count the pieces that were seen. Who spoke
        says the error, if there is one; the first candidate is a guess."""
        if pieces := len(self._said) + len(self._thought):
            first, facts = request.candidates[0], {}
            if isinstance(error, AstromeshError):
                facts = error.facts
            provider = facts.get("provider", first.provider)
            model = facts.get("model", first.model)
            seen = Usage(completion_tokens=pieces, estimated=True)
            self.tally.add(Finish(usage=seen, provider=provider, model=model))

    async def act(self, reply: ModelReplied) -> list[ToolReturned]:
        calls = [
            ToolCalled(f"{reply.model_call}.{position}", call.name, call.arguments, call.id)
            for position, call in enumerate(reply.message.tool_calls)
        ]
        for call in calls:
            self._replay.check(call)
        pending = [call for call in calls if not self._replay.started(call.call_id)]
        for call in pending:
            self._journal.emit(call)
        if any(not self._limits(call.name).idempotent for call in pending):
            await self._journal.commit()  # the intent is on disk before the effect
        else:
            self._journal.commit_soon()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._once(call)) for call in calls]
        return [task.result() for task in tasks]

    async def _once(self, call: ToolCalled) -> ToolReturned:
        if recorded := self._replay.result(call):
            return recorded
        limits = self._limits(call.name)
        if self._replay.started(call.call_id) and not limits.idempotent:
            result = ToolReturned(call.call_id, call.name, _NOT_REPEATED, Outcome.UNKNOWN)
        else:
            result = await self._call(call, limits)
        self._journal.emit(result)
        self._journal.commit_soon()
        return result

    async def _call(self, call: ToolCalled, limits: ToolLimits) -> ToolReturned:
        if call.name not in self._means.tool_limits:
            return _not_offered(call, sorted(self._means.tool_limits))
        run_id = self._journal.log.run_id
        request = ToolRequest(
            call.name,
            call.arguments,
            idempotency_key=f"{run_id}/{call.call_id}",
            timeout=limits.timeout,
            max_result_tokens=limits.max_result_tokens,
            context={
                "agent": self._agent,
                "run_id": run_id,
                "rate_limit": limits.rate_limit,
            },
        )
        try:
            with span(
                "execute_tool", {telemetry.TOOL: call.name, telemetry.TOOL_CALL: call.call_id}
            ):
                result = await self._means.tools.call(self._caller, request)
        except AstromeshError as error:  # the service, not the tool: the model may go on without
            return ToolReturned(call.call_id, call.name, error.message, Outcome.ERROR)
        telemetry.record(telemetry.TOOL_DURATION, result.duration, {telemetry.TOOL: call.name})
        return ToolReturned(
            call.call_id,
            call.name,
            result.content,
            result.outcome,
            result.truncated_tokens,
            result.duration,
        )

    def _limits(self, tool: str) -> ToolLimits:
        return self._means.tool_limits.get(tool, _HARMLESS)


_NOT_REPEATED = (
    "The process stopped while this call was running. It was not repeated, because the tool "
    "is not marked idempotent; whether it took effect is unknown."
)
_HARMLESS = ToolLimits(idempotent=True)  # a call of a tool that isn't there does nothing


def _measure_model(agent: str, reply: ModelReplied) -> None:
    finish = reply.finish
    if finish.cached or not telemetry.counting():  # an answer from the cache measures no model
        return
    seen: dict[str, telemetry.Attribute] = {
        telemetry.OPERATION: "chat",
        telemetry.AGENT: agent,
        telemetry.PROVIDER: finish.provider,
        telemetry.ANSWERED_BY: finish.model,
    }
    telemetry.record(telemetry.MODEL_DURATION, reply.duration, seen)
    for kind, tokens in (
        ("input", finish.usage.prompt_tokens),
        ("output", finish.usage.completion_tokens),
    ):
        telemetry.record(telemetry.TOKENS, tokens, {**seen, telemetry.TOKEN_TYPE: kind})


def _not_offered(call: ToolCalled, offered: Sequence[str]) -> ToolReturned:
    known = ", ".join(offered) or "none"
    text = f"There is no tool {call.name!r}. The tools are: {known}."
    return ToolReturned(call.call_id, call.name, text, Outcome.ERROR)
