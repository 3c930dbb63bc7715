"""Whether an answer fits the schema that was asked for, and how its repair is asked for. Pure:
who asks is `structured`."""

from dataclasses import dataclass, field, replace
from itertools import islice

from servers.domain.chat import (
    ChatRequest,
    Completion,
    Finish,
    FinishReason,
    ModelUsage,
    Role,
    says,
)
from servers.kernel.errors import Unavailable
from servers.kernel.json_schema import JsonSchema
from servers.router.chats.gathering import answer
from servers.router.chats.json_text import objects

_MOST_OBJECTS = 8  # of one answer that are checked
_NO_REPAIR = {
    FinishReason.LENGTH: "it was cut at its limit before the JSON was whole; raise max_tokens",
    FinishReason.CONTENT_FILTER: "the provider withheld the rest of it",
}


@dataclass(slots=True)
class Answering:
    """One request until it has an answer that fits: what is to be asked next, then the answer."""

    schema: JsonSchema
    ask: ChatRequest | None  # None: there is an answer
    answer: Completion | None = None
    _before: list[Finish] = field(default_factory=list)  # of an answer that did not fit

    def heard(self, found: Completion) -> None:
        """Raises Unavailable (OUTPUT_INVALID) where nothing more can be done."""
        assert self.ask, "nothing was asked"
        if found.finish.tool_calls and not self._before:
            self.answer, self.ask = found, None
            return
        text, faults = _judged(found.message.text, self.schema)
        if not faults:
            finish = _with(found.finish, self._before)
            self.answer, self.ask = answer(text, found.message.reasoning, finish), None
        elif in_vain := _NO_REPAIR.get(found.finish.reason):
            raise _unfit(found.finish, in_vain)
        elif self._before:
            raise _unfit(found.finish, f"it was to repair its answer, and still: {faults[0]}")
        else:
            self._before.append(found.finish)
            self.ask = _repair(self.ask, found.message.text, faults)


def _judged(text: str, schema: JsonSchema) -> tuple[str, list[str]]:
    """The JSON in `text` that fits, or what is wrong with the first one."""
    first: list[str] = []
    for written, value in islice(objects(text), _MOST_OBJECTS):
        faults = schema.faults(value)
        if not faults:
            return written, []
        first = first or faults
    return "", first or ["$: there is no whole JSON object in it"]


def _repair(request: ChatRequest, said: str, faults: list[str]) -> ChatRequest:
    """The same once more, with the answer and what is wrong with it. Without tools, which would
    be called with what only the answer is to be made of."""
    listed = "\n".join(f"- {fault}" for fault in faults)
    complaint = (
        f"Your answer does not fit the JSON Schema that it must fit:\n{listed}\n"
        "Answer again: the whole corrected JSON object, and nothing else."
    )
    exchange = says(Role.ASSISTANT, said or "(no answer)"), says(Role.USER, complaint)
    return replace(request, messages=(*request.messages, *exchange), tools=())


def _with(finish: Finish, before: list[Finish]) -> Finish:
    """With what the answer used that did not fit."""
    if not before:
        return finish
    first = before[0]
    used = ModelUsage(first.provider, first.model, 1, first.usage)
    return replace(
        finish,
        tool_calls=(),
        besides=(*first.besides, used, *finish.besides),
        notices=tuple(dict.fromkeys((*first.notices, *finish.notices))),
    )


def _unfit(finish: Finish, why: str) -> Unavailable:
    return Unavailable(
        f"the answer of {finish.provider}/{finish.model} does not fit the output_schema: {why}",
        reason="OUTPUT_INVALID",
        provider=finish.provider,
        model=finish.model,
    )
