"""A conversation over one call: many messages, one agent, one session."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from servers.domain.caller import Caller
from servers.domain.run_events import RunEvent
from servers.domain.runs import RunRequest
from servers.domain.services import Agents
from servers.kernel.errors import InvalidInput, Violation


class Conversation:
    def __init__(self, agents: Agents, caller: Caller) -> None:
        self._agents = agents
        self._caller = caller
        self._agent = ""
        self._session = ""

    async def say(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        """Run one message in the conversation's session."""
        self._settle(request)
        work = replace(request, agent=self._agent, session=self._session)
        async with aclosing(self._agents.stream(self._caller, work)) as events:
            async for event in events:
                # A session of its own has the name of its first run.
                self._session = self._session or event.run_id
                yield event

    def _settle(self, request: RunRequest) -> None:
        """The first message says who talks; a later one may only repeat it."""
        if not self._agent:
            self._agent, self._session = request.agent, request.session
        elif request.agent not in ("", self._agent):
            raise InvalidInput(
                f"this conversation is with {self._agent!r}; open another call to talk to "
                f"{request.agent!r}",
                reason="INVALID_REQUEST",
                violations=(Violation("agent", "the same in every message, or empty"),),
            )
