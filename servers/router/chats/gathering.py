"""Between an answer in one piece and the steps of a stream."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from servers.domain.chat import (
    Completion,
    Finish,
    Message,
    ReasoningPiece,
    Role,
    Step,
    Text,
    TextPiece,
)


@dataclass(slots=True)
class Gathering:
    """The steps of one answer as they arrive."""

    said: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    finish: Finish | None = None

    def take(self, step: Step) -> None:
        match step:
            case TextPiece(text):
                self.said.append(text)
            case ReasoningPiece(text):
                self.thought.append(text)
            case Finish():
                self.finish = step

    def whole(self) -> Completion:
        """The answer, once it has come to its end."""
        assert self.finish, "a stream ends with Finish or raises"
        return answer("".join(self.said), "".join(self.thought), self.finish)


def answer(text: str, reasoning: str, finish: Finish) -> Completion:
    parts = (Text(text),) if text else ()
    return Completion(
        Message(Role.ASSISTANT, parts, finish.tool_calls, reasoning=reasoning), finish
    )


def steps_of(completion: Completion) -> Iterator[Step]:
    """The stream of an answer that is there already."""
    if completion.message.reasoning:
        yield ReasoningPiece(completion.message.reasoning)
    if completion.message.text:
        yield TextPiece(completion.message.text)
    yield completion.finish
