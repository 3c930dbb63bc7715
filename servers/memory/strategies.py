"""How much of a conversation a model is shown."""

from collections.abc import Sequence
from itertools import dropwhile

from servers.domain.chat import Message, Role
from servers.domain.memory import Strategy
from servers.memory.names import wrong

KNOWN = ("sliding_window",)
_DEFAULT = Strategy()


def settled(strategy: Strategy) -> Strategy:
    """The strategy with defaults for an empty name and 0 turns.

    Raises InvalidInput for what can't be applied.
    """
    name, most = strategy.name or _DEFAULT.name, strategy.max_turns or _DEFAULT.max_turns
    if name not in KNOWN:
        raise wrong("strategy", f"{name!r} is unknown, there is {', '.join(KNOWN)}")
    if most < 1:
        raise wrong("max_turns", f"{most} is too few: 1 or more")
    return Strategy(name, most)


def presentable(window: Sequence[Message]) -> tuple[Message, ...]:
    """The window without leading tool results: their calls were cut off, and models refuse those.

    A result whose call is in the window always comes after it.
    """
    return tuple(dropwhile(lambda message: message.role is Role.TOOL, window))
