"""How much of a conversation a model is shown, and what goes into its summary."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import Final

from servers.domain.chat import Message, Role
from servers.domain.memory import Backlog, MemoryContext, SessionKey, Strategy, Turn
from servers.memory.names import wrong
from servers.memory.ports import Conversations, Window

KNOWN = ("sliding_window", "token_budget", "summary", "none")
_DEFAULT = Strategy()
_CHUNK: Final = 64  # turns that are read together
_BYTES_PER_TOKEN: Final = 4
_SUMMARISED: Final = 200  # turns at most that one summary takes in
_VERBATIM: Final = 4  # of the threshold, the part that stays as it is: a fourth


def settled(strategy: Strategy) -> Strategy:
    """The strategy with defaults for an empty name and zeros.

    Raises InvalidInput for what can't be applied.
    """
    name = strategy.name or _DEFAULT.name
    if name not in KNOWN:
        raise wrong("strategy", f"{name!r} is unknown, there is {', '.join(KNOWN)}")
    filled = {
        field: getattr(strategy, field) or getattr(_DEFAULT, field)
        for field in ("max_turns", "max_tokens", "summary_threshold")
    }
    for field, value in filled.items():
        if value < 1:
            raise wrong(field, f"{value} is too few: 1 or more")
    return replace(strategy, name=name, **filled)


async def shown(store: Conversations, key: SessionKey, strategy: Strategy) -> MemoryContext:
    """What a model is shown under a settled strategy."""
    if strategy.name == "token_budget":
        return await _within_budget(store, key, strategy)
    if strategy.name == "summary":
        # Where no summary could be made for long, the oldest are left out.
        window = await store.newest(key, 2 * strategy.summary_threshold)
        rest = [turn for turn in window.turns if turn.index >= window.until]
        return MemoryContext(presentable(rest), window.total, window.summary)
    window = await store.newest(key, strategy.max_turns)
    return MemoryContext(presentable(window.turns), window.total)


async def _within_budget(
    store: Conversations, key: SessionKey, strategy: Strategy
) -> MemoryContext:
    window, budget = await store.newest(key, _CHUNK), _Budget(strategy)
    turns: Sequence[Turn] = window.turns
    while turns and budget.takes(turns):
        turns = (await store.newest(key, _CHUNK, before=turns[0].index)).turns
    return MemoryContext(
        presentable(budget.taken[::-1]), window.total, uncounted=tuple(budget.uncounted)
    )


class _Budget:
    """Takes turns, newest first, until one would not fit: that one ends it, also if an older
    one would fit again."""

    def __init__(self, strategy: Strategy) -> None:
        self._left, self._by = strategy.max_tokens, strategy.counted_by
        self.taken: list[Turn] = []  # newest first
        self.uncounted: list[Turn] = []

    def takes(self, turns: Sequence[Turn]) -> bool:
        """Whether all of them fit."""
        for turn in reversed(turns):
            tokens = turn.tokens if self._by in ("", turn.counted_by) else 0
            if not tokens:
                self.uncounted.append(turn)
            self._left -= tokens or estimate(turn.message)
            if self._left < 0:
                return False
            self.taken.append(turn)
        return True


def estimate(message: Message) -> int:
    """Of a message that nobody has counted."""
    texts = [message.text, *(call.name + call.arguments for call in message.tool_calls)]
    size = sum(len(text.encode(errors="replace")) for text in texts)
    return 1 + -(-size // _BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Rolling:
    """Whose turn it is to be summarised: as soon as there are more turns than the threshold
    that aren't, all of them but the last few."""

    threshold: int

    @property
    def kept(self) -> int:
        """How many stay as they are: whole exchanges."""
        few = max(2, self.threshold // _VERBATIM)
        return min(few + few % 2, self.threshold)

    def limit(self) -> int:
        """How many turns behind the summary are looked at."""
        return self.threshold + _SUMMARISED

    def backlog(self, window: Window, turns: Sequence[Turn]) -> Backlog:
        """`turns`: the first ones behind the summary, up to the limit."""
        if len(turns) <= self.threshold:
            return Backlog(window.summary, (), window.etag)
        due = turns[: len(turns) - self.kept][:_SUMMARISED]
        return Backlog(window.summary, tuple(due), window.etag)


def presentable(window: Sequence[Turn]) -> tuple[Message, ...]:
    """The window without leading tool results: their calls were cut off, and models refuse those.

    A result whose call is in the window always comes after it.
    """
    messages = [turn.message for turn in window]
    return tuple(dropwhile(lambda message: message.role is Role.TOOL, messages))
