"""The tool calls of a run: each is recorded, approved where that is asked for, and made once."""

from functools import partial

from servers.agents.patterns.ports import Suspended
from servers.agents.patterns.together import together
from servers.agents.runs.calls.delegating import delegated, returned, waits_for
from servers.agents.runs.calls.timer import awake_at, slept
from servers.agents.runs.context.knowledge import by_tool
from servers.agents.runs.guarding import Guarding
from servers.agents.runs.means import Means, ToolKind, ToolLimits
from servers.agents.runs.work import Work
from servers.domain.run_events import Asked, Decided, ModelReplied, ToolCalled, ToolReturned
from servers.domain.runs import Ask, AskKind, Verdict
from servers.domain.tools import Outcome, ToolRequest
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError, NotReady
from servers.kernel.telemetry import span


class ToolCalls:
    """The calls of one part of a run."""

    def __init__(self, work: Work, means: Means, node: str) -> None:
        self._work = work
        self._means = means
        self._node = node
        self._guarding = Guarding(work, means, node)

    async def make(self, reply: ModelReplied) -> list[ToolReturned]:
        calls = [
            self._settled(
                ToolCalled(
                    f"{reply.model_call}.{position}",
                    call.name,
                    call.arguments,
                    call.id,
                    self._node,
                )
            )
            for position, call in enumerate(reply.message.tool_calls)
        ]
        for call in calls:
            self._work.replay.check(call)
        fresh = [call for call in calls if self._may_begin(call)]
        for call in fresh:
            self._work.journal.emit(call)
        if any(self._binds(call) for call in calls):
            await self._work.journal.commit()  # the intent is on disk before the effect
        else:
            self._work.journal.commit_shortly()
        return await together([partial(self._once, call) for call in calls])

    def _settled(self, call: ToolCalled) -> ToolCalled:
        """The call with the arguments that were approved, which need not be the model's."""
        decided = self._work.replay.decision(call.call_id)
        if decided is None or not decided.decision.arguments:
            return call
        arguments = decided.decision.arguments
        return ToolCalled(call.call_id, call.name, arguments, call.model_call_id, call.node)

    def _may_begin(self, call: ToolCalled) -> bool:
        replay = self._work.replay
        if replay.started(call.call_id) or replay.result(call.call_id):
            return False
        return self._limits(call.name).approval is None or self._approved(call)

    def _binds(self, call: ToolCalled) -> bool:
        """Whether it has to be on disk before anybody acts on it. A person who is asked about a
        call would else answer for the one that the model makes in its place after a crash; and
        what he has approved is done only by an approval that is on record."""
        if self._work.replay.result(call.call_id):
            return False
        limits = self._limits(call.name)
        asks = limits.approval is not None or limits.kind is ToolKind.CLIENT
        return asks or not limits.idempotent

    def _approved(self, call: ToolCalled) -> bool:
        decided = self._work.replay.decision(call.call_id)
        return decided is not None and decided.decision.verdict is Verdict.APPROVE

    async def _once(self, call: ToolCalled) -> ToolReturned:
        if recorded := self._work.replay.result(call.call_id):
            return recorded
        limits = self._limits(call.name)
        result = await self._guarding.result(await self._result(call, limits))
        self._work.journal.emit(result)
        if limits.idempotent:
            self._work.journal.commit_shortly()
        else:
            self._work.journal.commit_soon()
        return result

    async def _result(self, call: ToolCalled, limits: ToolLimits) -> ToolReturned:
        if limits.approval and not self._approved(call):
            return self._rejected(call, self._decision(self._approval(call, limits)))
        match limits.kind:
            case ToolKind.CLIENT:
                return self._told(call)
            case ToolKind.TIMER:
                return self._slept(call)
            case ToolKind.AGENT:
                return await self._delegated(call, limits)
            case ToolKind.RAG:
                return await self._looked_up(call, limits)
            case _:
                return await self._called(call, limits)

    # -- what comes from outside -------------------------------------------------------------

    def _approval(self, call: ToolCalled, limits: ToolLimits) -> Ask:
        assert limits.approval
        may = limits.approval
        kind = AskKind.APPROVAL
        return Ask(call.call_id, kind, call.name, call.arguments, may.editable, may.principals)

    def _decision(self, ask: Ask) -> Decided:
        """What was decided. Raises Suspended while nothing is."""
        if decided := self._work.replay.decision(ask.call_id):
            return decided
        self._wait_for(ask)
        raise Suspended

    def _wait_for(self, ask: Ask) -> None:
        if not self._work.journal.keeps:
            raise NotReady(
                f"the tool {ask.tool!r} makes the run wait, and a run of durability 'none' "
                "can't: let the agent say durability: step",
                reason="NOT_DURABLE",
                run_id=self._work.run.id,
            )
        if self._work.replay.ask(ask.call_id) is None:
            self._work.journal.emit(Asked(ask))
        self._work.asks[ask.call_id] = ask

    def _rejected(self, call: ToolCalled, decided: Decided) -> ToolReturned:
        reason = decided.decision.reason
        text = f"The call was not approved{f': {reason}' if reason else '.'}"
        return ToolReturned(call.call_id, call.name, text, Outcome.ERROR)

    def _told(self, call: ToolCalled) -> ToolReturned:
        ask = Ask(call.call_id, AskKind.INPUT, call.name, call.arguments)
        decision = self._decision(ask).decision
        outcome = Outcome.ERROR if decision.is_error else Outcome.OK
        return ToolReturned(call.call_id, call.name, decision.content, outcome)

    def _slept(self, call: ToolCalled) -> ToolReturned:
        now = self._work.now()
        recorded = self._work.replay.ask(call.call_id)
        try:
            until = recorded.until if recorded else awake_at(call.arguments, now)
        except ValueError as error:
            return ToolReturned(call.call_id, call.name, str(error), Outcome.ERROR)
        if until is not None and now < until:
            kind = AskKind.TIMER
            self._wait_for(Ask(call.call_id, kind, call.name, call.arguments, until=until))
            raise Suspended
        return ToolReturned(call.call_id, call.name, slept(now))

    # -- other agents ------------------------------------------------------------------------

    async def _delegated(self, call: ToolCalled, limits: ToolLimits) -> ToolReturned:
        with span("execute_tool", self._about(call)):
            run = await delegated(self._work, call, limits)
        if isinstance(run, ToolReturned):
            return run
        if run.state.waiting:
            self._wait_for(waits_for(call, run, self._work.now()))
            raise Suspended
        return returned(call, run, limits)

    async def _looked_up(self, call: ToolCalled, limits: ToolLimits) -> ToolReturned:
        assert self._means.rag
        with span("execute_tool", self._about(call)):
            return await by_tool(self._means.rag, self._work, call, limits)

    # -- the tools service -------------------------------------------------------------------

    async def _called(self, call: ToolCalled, limits: ToolLimits) -> ToolReturned:
        if self._work.replay.started(call.call_id) and not limits.idempotent:
            return ToolReturned(call.call_id, call.name, _NOT_REPEATED, Outcome.UNKNOWN)
        if call.name not in self._means.tool_limits:
            return _not_offered(call, sorted(self._means.tool_limits))
        request = ToolRequest(
            call.name,
            call.arguments,
            idempotency_key=f"{self._work.run.id}/{call.call_id}",
            timeout=limits.timeout,
            max_result_tokens=limits.max_result_tokens,
            context={
                "agent": self._means.agent or self._work.account.agent,
                "run_id": self._work.run.id,
                "rate_limit": limits.rate_limit,
            },
        )
        try:
            with span("execute_tool", self._about(call)):
                result = await self._means.tools.call(self._work.caller, request)
        except AstromeshError as error:  # the service, not the tool: the model may go on without
            return ToolReturned(call.call_id, call.name, error.message, Outcome.ERROR)
        telemetry.record(telemetry.TOOL_DURATION, result.duration, {telemetry.TOOL: call.name})
        return ToolReturned(
            call.call_id,
            call.name,
            result.content,
            _told_as(result.outcome, limits),
            result.truncated_tokens,
            result.duration,
        )

    def _about(self, call: ToolCalled) -> telemetry.Attributes:
        return {telemetry.TOOL: call.name, telemetry.TOOL_CALL: call.call_id}

    def _limits(self, tool: str) -> ToolLimits:
        return self._means.tool_limits.get(tool, _HARMLESS)


_NOT_REPEATED = (
    "The process stopped while this call was running. It was not repeated, because the tool "
    "is not marked idempotent; whether it took effect is unknown."
)
_HARMLESS = ToolLimits(idempotent=True)  # a call of a tool that isn't there does nothing


def _told_as(outcome: Outcome, limits: ToolLimits) -> Outcome:
    """Whether a call took effect is no question where another one makes no difference."""
    return Outcome.ERROR if outcome is Outcome.UNKNOWN and limits.idempotent else outcome


def _not_offered(call: ToolCalled, offered: list[str]) -> ToolReturned:
    known = ", ".join(offered) or "none"
    text = f"There is no tool {call.name!r}. The tools are: {known}."
    return ToolReturned(call.call_id, call.name, text, Outcome.ERROR)
