"""Whether what an agent remembers can be kept where it says."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from servers.agents.manifest import Agent
from servers.domain.services import Memory
from servers.kernel.errors import AstromeshError, NotReady, Unavailable, Violation

_CONVERSATIONS = "spec.memory.conversational.backend"
_EPISODIC = "spec.memory.episodic.backend"
_SEMANTIC = "spec.memory.semantic.collection"
_KNOWN_FOR = 5.0  # seconds that a backend is taken to answer, once it has
_MISSED_FOR = 1.0  # and not to answer, once it hasn't: a list of agents asks for each
_KNOWN = 1000  # places

T = TypeVar("T")

_Place: TypeAlias = tuple[str, str]  # what is kept there, and its name


class KnownPlaces:
    """One for the whole process. `now` is any clock that counts seconds."""

    def __init__(self, memory: Memory, now: Callable[[], float]) -> None:
        self._memory, self._now = memory, now
        self._answered: dict[_Place, float] = {}
        self._missed: dict[_Place, tuple[float, AstromeshError]] = {}

    async def check(self, agent: Agent, to_run: bool = False) -> None:
        """Raises NotReady (AGENT_NOT_READY): an agent that can't remember its conversation,
        or what happened, does not answer as if there had been nothing.

        `to_run`: a run does without semantic memory that is away just now, and says so; not
        without one that there isn't.
        """
        if talk := agent.conversation:
            place = talk.place(agent.name)
            if error := await self._wrong(_CONVERSATIONS, place, self._memory.check):
                raise _not_ready(agent, _CONVERSATIONS, error) from error
        if kept := agent.episodes:
            place = kept.place(agent.name)
            if error := await self._wrong(_EPISODIC, place, self._memory.episodes.check):
                raise _not_ready(agent, _EPISODIC, error) from error
        if facts := agent.semantic:
            place = facts.name(agent.name)
            error = await self._wrong(_SEMANTIC, place, self._memory.semantic.check)
            if error and not (to_run and isinstance(error, Unavailable)):
                raise _not_ready(agent, _SEMANTIC, error) from error

    async def _wrong(
        self, field: str, name: str, check: Callable[[str], Awaitable[None]]
    ) -> AstromeshError | None:
        now, place = self._now(), (field, name)
        if now - self._answered.get(place, float("-inf")) < _KNOWN_FOR:
            return None
        at, error = self._missed.get(place, (float("-inf"), None))
        if error and now - at < _MISSED_FOR:
            return error
        try:
            await check(name)
        except AstromeshError as wrong:
            if isinstance(wrong, Unavailable) and wrong.reason != "STORE_UNAVAILABLE":
                return None  # the memory service itself is away: the run will say so
            _note(self._missed, place, (self._now(), wrong))
            return wrong
        _note(self._answered, place, self._now())
        return None


def _note(known: dict[_Place, T], place: _Place, what: T) -> None:
    """Names come from agents, which come and go."""
    if len(known) >= _KNOWN:
        known.clear()
    known[place] = what


def _not_ready(agent: Agent, field: str, error: AstromeshError) -> NotReady:
    return NotReady(
        f"agent {agent.name!r}: {field}: {error.message}",
        reason="AGENT_NOT_READY",
        violations=(Violation(field, error.message),),
        agent=agent.name,
    )
