"""How much of a conversation a model is shown, and what goes into its summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Final

from servers.domain.chat import Message, Role
from servers.domain.memory import Backlog, MemoryContext, SessionKey, Strategy, Turn
from servers.kernel.stored_json import loads_joined, message_from
from servers.memory.names import wrong
from servers.memory.ports import Conversations, Standing, StoredTurn

KNOWN = ("sliding_window", "token_budget", "summary", "none")
_DEFAULT = Strategy()
_SHORT: Final = 48  # tokens of a turn that is rather short
_FEW, _MANY, _MOST = 8, 64, 256  # turns that are read together: at least, at first, later
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
    filled = Strategy(
        name,
        strategy.max_turns or _DEFAULT.max_turns,
        strategy.max_tokens or _DEFAULT.max_tokens,
        strategy.summary_threshold or _DEFAULT.summary_threshold,
        strategy.counted_by,
    )
    for field in ("max_turns", "max_tokens", "summary_threshold"):
        if (value := getattr(filled, field)) < 1:
            raise wrong(field, f"{value} is too few: 1 or more")
    return filled


async def shown(store: Conversations, key: SessionKey, strategy: Strategy) -> MemoryContext:
    """What a model is shown under a settled strategy."""
    if strategy.name == "token_budget":
        return await _within_budget(store, key, strategy)
    if strategy.name == "summary":
        # Where no summary could be made for long, the oldest are left out.
        most = 2 * strategy.summary_threshold
        latest = await store.latest(key, most, unsummarised=True)
        return MemoryContext(presentable(latest.messages), latest.total, latest.summary)
    latest = await store.latest(key, strategy.max_turns)
    return MemoryContext(presentable(latest.messages), latest.total)


async def _within_budget(
    store: Conversations, key: SessionKey, strategy: Strategy
) -> MemoryContext:
    budget, limit = _Budget(strategy), _guessed(strategy.max_tokens)
    first = window = await store.newest(key, limit)
    while budget.takes(window.turns) and len(window.turns) == limit:
        limit = min(2 * limit, _MOST)
        window = await store.newest(key, limit, before=window.turns[-1].idx)
    uncounted = tuple(each.turn() for each in budget.uncounted)
    return MemoryContext(presentable(budget.shown()), first.total, uncounted=uncounted)


def _guessed(tokens: int) -> int:
    """How many turns to read for that many tokens: as a rule all that fit, at one go."""
    return min(max(tokens // _SHORT, _FEW), _MANY)


class _Budget:
    """Takes turns, newest first, until one would not fit: that one ends it, also if an older
    one would fit again."""

    def __init__(self, strategy: Strategy) -> None:
        self._left, self._by = strategy.max_tokens, strategy.counted_by
        self._taken: list[StoredTurn] = []  # newest first
        self.uncounted: list[StoredTurn] = []

    def takes(self, turns: Sequence[StoredTurn]) -> bool:
        """Whether all of them fit."""
        for turn in turns:
            tokens = turn.tokens if self._by in ("", turn.counted_by) else 0
            if not tokens:
                self.uncounted.append(turn)
            self._left -= tokens or estimate(turn.turn().message)
            if self._left < 0:
                return False
            self._taken.append(turn)
        return True

    def shown(self) -> tuple[Message, ...]:
        bodies = b",".join([turn.body for turn in reversed(self._taken)])
        return tuple(map(message_from, loads_joined(bodies)))


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

    def backlog(self, now: Standing, turns: Sequence[Turn]) -> Backlog:
        """`turns`: the first ones behind the summary, up to the limit."""
        if len(turns) <= self.threshold:
            return Backlog(now.summary, (), now.etag)
        due = turns[: len(turns) - self.kept][:_SUMMARISED]
        return Backlog(now.summary, tuple(due), now.etag)


def presentable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Without leading tool results: their calls were cut off, and models refuse those.

    A result whose call is among the messages always comes after it.
    """
    return tuple(dropwhile(lambda message: message.role is Role.TOOL, messages))
