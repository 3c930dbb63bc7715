"""Makes a conversation shorter: tool results first, then whole turns, the oldest ones first.

Never the system prompt, the question, or what was done last; and a tool's result stays with
the call that it answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from servers.domain.chat import Message, Role, Text

_LEAST = 200  # bytes of a result that are worth to be kept
_MARKER = 32  # bytes, about


@dataclass(slots=True)
class Cutting:
    """`rate` is how many tokens a byte has."""

    messages: Sequence[Message]
    rate: float
    _lost: dict[int, int] = field(default_factory=dict)  # bytes of a tool result, by its index
    _dropped: set[int] = field(default_factory=set)

    def spare(self, tokens: int) -> bool:
        """Leave out as many tokens more, as far as there is anything to leave out."""
        excess = before = ceil(tokens / self.rate)
        for index, message in enumerate(self.messages):
            if excess > 0 and message.role is Role.TOOL and index not in self._dropped:
                excess -= self._cut(index, excess)
        for turn in self._turns():
            if excess > 0 and not self._dropped.issuperset(turn):
                excess -= sum(self._size(index) for index in turn)
                self._dropped.update(turn)
        return excess < before

    def result(self) -> tuple[Message, ...]:
        return tuple(
            self._shown(index, message)
            for index, message in enumerate(self.messages)
            if index not in self._dropped
        )

    @property
    def told(self) -> str:
        """What was left out."""
        results = sum(index not in self._dropped for index in self._lost)
        parts = [f"parts of {results} tool results"] * bool(results)
        parts += [f"the oldest {len(self._dropped)} messages"] * bool(self._dropped)
        return " and ".join(parts)

    # -- tool results ------------------------------------------------------------------------

    def _cut(self, index: int, excess: int) -> int:
        """How many bytes fewer the result has then."""
        whole, before = _size(self.messages[index].text), self._lost.get(index, 0)
        kept = whole - before - excess - (0 if before else _MARKER)
        lost = whole if kept < _LEAST else whole - kept
        gain = lost - before - (0 if before else _MARKER)
        if gain <= 0:
            return 0
        self._lost[index] = lost
        return gain

    def _shown(self, index: int, message: Message) -> Message:
        if index not in self._lost:
            return message
        lost, written = self._lost[index], message.text.encode(errors="replace")
        kept = written[: len(written) - lost].decode(errors="ignore")
        marker = f"[... {max(1, ceil(lost * self.rate))} tokens cut]"
        return replace(message, parts=(Text(f"{kept}\n{marker}" if kept else marker),))

    # -- turns -------------------------------------------------------------------------------

    def _size(self, index: int) -> int:
        message = self._shown(index, self.messages[index])
        calls = sum(_size(call.name + call.arguments) for call in message.tool_calls)
        return _size(message.text) + calls

    def _turns(self) -> list[range]:
        """What can go as a whole, oldest first: the turns before the question, then what has
        been done since, except for the last of it."""
        roles = [message.role for message in self.messages]
        begin = 1 if roles[:1] == [Role.SYSTEM] else 0
        if Role.USER not in roles:
            return []
        question = len(roles) - 1 - roles[::-1].index(Role.USER)
        starts = [i for i in range(begin, question) if i == begin or roles[i] is Role.USER]
        turns = _spans(starts, question)
        done = [i for i in range(question + 1, len(roles)) if roles[i] is not Role.TOOL]
        return turns + _spans(done, len(roles))[:-1]


def _spans(starts: list[int], end: int) -> list[range]:
    return [range(*each) for each in zip(starts, [*starts[1:], end], strict=True)] if starts else []


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
