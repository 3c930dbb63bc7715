"""Calls tools, within their limits. Satisfies `servers.domain.services.Tools`."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from time import monotonic

from servers.domain.caller import Caller
from servers.domain.tools import Outcome, Tool, ToolRequest, ToolResult
from servers.kernel.errors import AstromeshError, InvalidInput, NotFound
from servers.kernel.result_budget import cut
from servers.tools.limits import SlidingWindows, rate_limit_from
from servers.tools.ports import Invocable, Invocation

# No result is longer than this, whatever the request says: 400 KB of text.
MAX_RESULT_TOKENS = 100_000


class ToolService:
    """Tools by name.

    `context` of a request may carry "agent" (whose calls are counted together) and
    "rate_limit" (`max_calls`, `window_seconds`, per tenant, agent and tool).
    """

    def __init__(
        self,
        tools: Iterable[Invocable],
        *,
        max_concurrent: int = 64,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """Raises InvalidInput where two tools have one name."""
        self._tools: dict[str, Invocable] = {}
        for each in tools:
            if self._tools.setdefault(each.tool.name, each) is not each:
                raise InvalidInput(
                    f"two tools are named {each.tool.name!r}: rename one",
                    reason="TOOL_NAME_TAKEN",
                    tool=each.tool.name,
                )
        self._places = asyncio.Semaphore(max_concurrent)
        self._windows = SlidingWindows(now)
        self._now = now

    async def list(self) -> Sequence[Tool]:
        return [self._tools[name].tool for name in sorted(self._tools)]

    async def get(self, name: str) -> Tool:
        if name not in self._tools:
            raise NotFound(self._unknown(name), tool=name)
        return self._tools[name].tool

    async def call(self, caller: Caller, request: ToolRequest) -> ToolResult:
        """The time a call waits for its turn counts towards its timeout.

        Raises InvalidInput for a rate limit that is none; the tool itself never raises.
        """
        started = self._now()
        outcome, content = await self._outcome(caller, request)
        budget = (
            MAX_RESULT_TOKENS
            if request.max_result_tokens is None
            else min(request.max_result_tokens, MAX_RESULT_TOKENS)
        )
        content, missing = cut(content, budget)
        content = content.encode("utf-8", "replace").decode()  # half surrogate pairs can't be sent
        return ToolResult(content, outcome, missing, self._now() - started)

    async def _outcome(self, caller: Caller, request: ToolRequest) -> tuple[Outcome, str]:
        invocable = self._tools.get(request.name)
        if invocable is None:
            return Outcome.ERROR, self._unknown(request.name)
        if wait := self._wait(caller, request):
            return Outcome.ERROR, (
                f"{request.name!r} was called too often: try again in {wait:.0f} s, "
                "or go on without it"
            )
        seconds = _timeout(invocable.tool, request)
        invocation = Invocation(caller, request.idempotency_key, request.context)
        return await self._within(seconds, invocable, request.arguments, invocation)

    async def _within(
        self, seconds: float, invocable: Invocable, arguments: str, invocation: Invocation
    ) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(seconds) as deadline, self._places:
                return Outcome.OK, await invocable.call(arguments, invocation)
        except asyncio.CancelledError as cancelled:
            # Somebody left, or the tool cancelled something of its own: only the former
            # is a cancel of this call.
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return Outcome.ERROR, _said(cancelled)
        except Exception as error:  # whatever a tool raises is for the model to read
            if isinstance(error, TimeoutError) and deadline.expired():
                name = invocable.tool.name
                return Outcome.TIMEOUT, f"{name!r} did not finish within {seconds:g} s"
            return Outcome.ERROR, _said(error)

    def _wait(self, caller: Caller, request: ToolRequest) -> float:
        """Seconds until the agent's own limit lets this call through; 0.0 for at once."""
        limit = rate_limit_from(request.context.get("rate_limit"))
        if limit is None:
            return 0.0
        agent = str(request.context.get("agent", ""))
        return self._windows.admit((caller.tenant, agent, request.name), limit)

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self._tools, n=3, cutoff=0.4)
        some = ", ".join(map(repr, near or sorted(self._tools)[:10]))
        hint = f"; did you mean {some}?" if near else f"; there are {some}" if some else ""
        return f"no tool is named {name!r}{hint}"


def _timeout(tool: Tool, request: ToolRequest) -> float:
    return tool.timeout if request.timeout is None else min(tool.timeout, request.timeout)


def _said(error: BaseException) -> str:
    """Type and message, never a traceback: the model and its user read this."""
    message = error.message if isinstance(error, AstromeshError) else str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
