"""Does and records the steps of one run, or of a part of it: model calls and tool calls."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from time import perf_counter

from servers.agents.runs.calls.calling import ToolCalls
from servers.agents.runs.guarding import Guarding, Hearing, failure_told
from servers.agents.runs.means import Means
from servers.agents.runs.record.failure import error_of
from servers.agents.runs.work import Work
from servers.domain.chat import (
    ChatRequest,
    Finish,
    Json,
    Message,
    ReasoningPiece,
    Role,
    Speaker,
    Text,
    TextPiece,
    ToolSpec,
    Usage,
)
from servers.domain.run_events import (
    BranchEnded,
    BranchKind,
    BranchStarted,
    ModelReplied,
    Noticed,
    ToolReturned,
    UsageReported,
)
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError
from servers.kernel.telemetry import span


class RecordedSteps:
    """`patterns.ports.Steps` for one run; `node` names the part of it, empty for the run."""

    def __init__(self, work: Work, means: Means, node: str = "") -> None:
        self._work = work
        self._means = means
        self._node = node
        self._replies = 0  # of this part so far
        self._guarding = Guarding(work, means, node)
        self._calls = ToolCalls(work, means, node)

    def begin_iteration(self) -> None:
        self._work.iterations += 1

    async def act(self, reply: ModelReplied) -> list[ToolReturned]:
        return await self._calls.make(reply)

    # -- parts -------------------------------------------------------------------------------

    @asynccontextmanager
    async def branch(
        self, key: str, kind: BranchKind, name: str, input: str = "", member: str = ""
    ) -> "AsyncIterator[RecordedSteps]":
        means = self._means.members[member] if member else self._means
        async with self._part(key, kind, name, input, means) as part:
            yield part

    @asynccontextmanager
    async def _part(
        self, key: str, kind: BranchKind, name: str, input: str, means: Means
    ) -> "AsyncIterator[RecordedSteps]":
        """On record from its start to its end. What is cancelled or waits has no end yet."""
        work, node = self._work, f"{self._node}/{key}" if self._node else key
        start = BranchStarted(node, self._node, kind, name, input)
        work.replay.check_branch(start)
        if work.replay.branch(node) is None:
            work.journal.emit(start)
        end = work.replay.branch_end(node)
        try:
            with span(kind.value, {telemetry.AGENT: work.account.agent, "astromesh.part": name}):
                yield RecordedSteps(work, means, node)
        except AstromeshError as error:
            if end is None:
                work.journal.emit(BranchEnded(node, failure_told(means.rules, error)))
            raise
        if end is None:
            work.journal.emit(BranchEnded(node))

    # -- model calls -------------------------------------------------------------------------

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        role: str = "default",
        output_schema: Json | None = None,
    ) -> ModelReplied:
        self._replies += 1
        if recorded := self._recorded(self._replies - 1):
            self._work.saying = [recorded.message.text]
            self._work.tally.add(recorded.finish)
            return recorded
        await self._guarding.before_call()
        request = await self._fitted(self._request(messages, tools, role, output_schema))
        call, began = self._work.next_model_call(), perf_counter()
        heard = self._guarding.hearing(call, request, plan=role == "planner")
        self._work.saying = heard.said
        finish = await self._listen(request, heard)
        message = Message(
            Role.ASSISTANT,
            (Text("".join(heard.said)),) if heard.said else (),
            finish.tool_calls,
            reasoning="".join(heard.thought),
        )
        reply = ModelReplied(call, message, finish, perf_counter() - began, self._node)
        self._record(reply)
        return reply

    def _recorded(self, position: int) -> ModelReplied | None:
        """What the model said before the run stopped. Raises where the branch had failed."""
        replay = self._work.replay
        reply, end = replay.reply(self._node, position), replay.branch_end(self._node)
        if reply is None and end and end.failure:
            raise error_of(end.failure)
        return reply

    def _request(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        role: str,
        output_schema: Json | None,
    ) -> ChatRequest:
        models = self._means.models.get(role) or self._means.models["default"]
        return ChatRequest(
            tuple(messages),
            models.candidates,
            models.strategy,
            tuple(tools),
            output_schema=output_schema,
            hedge=self._means.hedge,
            cache_ttl=self._means.cache_ttl,
            account=self._work.account,
        )

    async def _fitted(self, request: ChatRequest) -> ChatRequest:
        if self._means.fitting is None:
            return request
        request, left_out = await self._means.fitting.fitted(request)
        if left_out:
            what = f"to fit the model's context window, it was not shown {left_out}"
            self._work.journal.emit(Noticed("CONTEXT_CUT", what))
        return request

    def _record(self, reply: ModelReplied) -> None:
        work = self._work
        work.tally.add(reply.finish)
        _measure_model(work.account.agent, reply)
        work.journal.emit(reply)
        work.journal.emit(UsageReported(work.tally.models))
        for notice in reply.finish.notices:
            work.journal.emit(Noticed(notice.reason, notice.message))

    async def _listen(self, request: ChatRequest, heard: Hearing) -> Finish:
        agent, first = self._work.account.agent, request.candidates[0]
        speaker = Speaker(first.provider, first.model)
        try:
            with span("chat", {telemetry.OPERATION: "chat", telemetry.AGENT: agent}):
                async with aclosing(self._means.router.stream(request)) as steps:
                    async for step in steps:
                        match step:
                            case TextPiece(text):
                                heard.hear(text)
                                await self._room()
                            case ReasoningPiece(text):
                                heard.think(text)
                                await self._room()
                            case Speaker():
                                speaker = step
                            case Finish():
                                return await heard.end(step)
        except BaseException:
            self._count_cut_off(speaker, heard.pieces)
            raise
        raise AssertionError("a stream ends with Finish or raises")

    async def _room(self) -> None:
        """The model waits while the disk is stuck: nobody reads on what it sends."""
        if self._work.journal.full:
            await self._work.journal.room()

    def _count_cut_off(self, speaker: Speaker, pieces: int) -> None:
        """A call that was cut off was paid for, too: count the pieces that were seen."""
        if pieces:
            seen = Usage(completion_tokens=pieces, estimated=True)
            self._work.tally.add(Finish(usage=seen, provider=speaker.provider, model=speaker.model))


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
