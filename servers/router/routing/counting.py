"""How many tokens a prompt has: exactly where a tokenizer is at hand, else estimated.

The estimates are rough on purpose and say so: a limit that refuses goes by what a prompt has
at least, a budget that sets money aside by what it may have at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from servers.domain.chat import ChatRequest, Message, ToolSpec

Count = Callable[[str], int]

_MOST_BYTES = 6  # no prose has longer tokens on the average
_LEAST_BYTES = 2  # nor shorter ones, not even dense code
_PICTURE = 85  # tokens; what the smallest picture costs at OpenAI
# OpenAI's own reckoning of what a chat has besides its texts.
_PER_MESSAGE, _PER_REPLY = 3, 3


@dataclass(slots=True)
class Prompt:
    """The prompt of one request. Its bytes are counted once, and only when somebody asks."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    _bytes: int | None = field(default=None, init=False)

    @classmethod
    def of(cls, request: ChatRequest) -> "Prompt":
        return cls(request.messages, request.tools)

    @property
    def size(self) -> int:
        """Bytes of all texts, those of tools and their calls included."""
        if self._bytes is None:
            self._bytes = sum(len(text.encode(errors="replace")) for text in self._texts())
        return self._bytes

    @property
    def least(self) -> int:
        """It has more tokens than this."""
        return self.size // _MOST_BYTES

    @property
    def most(self) -> int:
        """It hardly has more tokens than this."""
        return -(-self.size // _LEAST_BYTES) + self.frame

    @property
    def likely(self) -> int:
        """In between."""
        return self.size // 4 + self.frame

    @property
    def frame(self) -> int:
        """Tokens that are no text: who speaks, and pictures."""
        pictures = sum(len(m.parts) - bool(m.text) for m in self.messages if len(m.parts) > 1)
        return _PER_REPLY + _PER_MESSAGE * len(self.messages) + _PICTURE * pictures

    def counted(self, count: Count) -> int:
        """By a tokenizer, as OpenAI counts chats. Exact for chats without tools and pictures."""
        return self.frame + sum(count(text) for text in (*self._texts(), *self._roles()))

    @property
    def plain(self) -> bool:
        """Whether it is texts and nothing else."""
        return not self.tools and all(
            not m.tool_calls and len(m.parts) <= 1 and bool(m.text) == bool(m.parts)
            for m in self.messages
        )

    def _texts(self) -> list[str]:
        found = [m.text for m in self.messages]
        found += [call.name + call.arguments for m in self.messages for call in m.tool_calls]
        found += [
            tool.name + tool.description + orjson.dumps(tool.parameters).decode()
            for tool in self.tools
        ]
        return found

    def _roles(self) -> list[str]:
        return [m.role.value for m in self.messages]
