"""Whether the conversations of an agent can be kept where it says."""

from collections.abc import Callable

from servers.agents.manifest import Agent
from servers.domain.services import Memory
from servers.kernel.errors import AstromeshError, NotReady, Unavailable, Violation

_FIELD = "spec.memory.conversational.backend"
_KNOWN_FOR = 5.0  # seconds that a backend is taken to answer, once it has
_MISSED_FOR = 1.0  # and not to answer, once it hasn't: a list of agents asks for each


class KnownPlaces:
    """One for the whole process. `now` is any clock that counts seconds."""

    def __init__(self, memory: Memory, now: Callable[[], float]) -> None:
        self._memory, self._now = memory, now
        self._answered: dict[str, float] = {}
        self._missed: dict[str, tuple[float, AstromeshError]] = {}

    async def check(self, agent: Agent) -> None:
        """Raises NotReady (AGENT_NOT_READY): an agent that can't remember does not answer as
        if it had nothing to remember."""
        if (talk := agent.conversation) is None:
            return
        place = talk.place(agent.name)
        if error := await self._wrong(place):
            raise NotReady(
                f"agent {agent.name!r}: {_FIELD}: {error.message}",
                reason="AGENT_NOT_READY",
                violations=(Violation(_FIELD, error.message),),
                agent=agent.name,
            ) from error

    async def _wrong(self, place: str) -> AstromeshError | None:
        now = self._now()
        if now - self._answered.get(place, float("-inf")) < _KNOWN_FOR:
            return None
        at, error = self._missed.get(place, (float("-inf"), None))
        if error and now - at < _MISSED_FOR:
            return error
        try:
            await self._memory.check(place)
        except AstromeshError as wrong:
            if isinstance(wrong, Unavailable) and wrong.reason != "STORE_UNAVAILABLE":
                return None  # the memory service itself is away: the run will say so
            self._missed[place] = self._now(), wrong
            return wrong
        self._answered[place] = self._now()
        return None
