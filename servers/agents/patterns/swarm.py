"""Agents that hand a conversation over to one another, until one of them answers it.

Who has the conversation speaks with a system prompt, models and tools of its own, and reads
all that was said and done before. After the routines and hand-offs of OpenAI's Swarm (2024).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from servers.agents.patterns.loop import Talk, observation, observed, tool_loop
from servers.agents.patterns.ports import Answer, Member, Steps, Task
from servers.domain.chat import Json, Message, Role, ToolCall, ToolSpec, says
from servers.domain.run_events import BranchKind, ModelReplied, ToolReturned

PREFIX = "transfer_to_"
_PARAMETERS: Json = {
    "type": "object",
    "properties": {"reason": {"type": "string", "description": "Why, and what is to be done."}},
}
_OFFER = "Hand the conversation over to {name}, who answers from then on. {description}"
_MOVED = "{name!r} has the conversation now."
_NOT_MOVED = "Not done: {name!r} has the conversation already."


async def swarm(steps: Steps, task: Task) -> Answer:
    """After `max_handoffs` nobody is offered to hand it over once more."""
    first, members = task.shape.members[0], task.shape.members
    turn = _Turn(steps, task, first, task.messages, _doors(task, first, 0))
    answer = await turn.taken()
    here, handoffs = first, 0
    while turn.to:
        here = next(each for each in members if each.name == turn.to)
        handoffs += 1
        key, means = f"{handoffs}.{here.name}", "" if here is first else here.name
        doors = _doors(task, here, handoffs)
        kind = BranchKind.HANDOFF
        async with steps.branch(key, kind, here.name, turn.reason, means) as part:
            turn = _Turn(part, task, here, _heard_by(here, turn.said), doors)
            answer = await turn.taken()
    return answer if here is first else replace(answer, answered_by=here.name)


def _doors(task: Task, here: Member, handoffs: int) -> dict[str, Member]:
    """To whom it may be handed over, by the tool for it."""
    if handoffs >= task.shape.max_handoffs:
        return {}
    return {PREFIX + each.name: each for each in task.shape.members if each is not here}


def _heard_by(here: Member, said: Sequence[Message]) -> tuple[Message, ...]:
    head = (says(Role.SYSTEM, here.system),) if here.system else ()
    return (*head, *(message for message in said if message.role is not Role.SYSTEM))


class _Turn:
    """One agent's part of the conversation."""

    def __init__(
        self,
        steps: Steps,
        task: Task,
        here: Member,
        messages: Sequence[Message],
        doors: Mapping[str, Member],
    ) -> None:
        offers = tuple(_offer(name, member) for name, member in doors.items())
        self._steps, self._doors = steps, doors
        self._talk = Talk(
            list(messages),
            (*here.tools, *offers),
            here.max_iterations,
            output_schema=task.output_schema,
        )
        self.to = ""  # who has the conversation next
        self.reason = ""

    @property
    def said(self) -> Sequence[Message]:
        return self._talk.messages

    async def taken(self) -> Answer:
        return await tool_loop(self._steps, self._talk, self._act)

    async def _act(self, reply: ModelReplied) -> Sequence[ToolReturned] | None:
        """Other calls come before a hand-over; of several the first one counts."""
        calls = reply.message.tool_calls
        moves = [call for call in calls if call.name in self._doors]
        if not moves:
            return await self._steps.act(reply)
        others = [call for call in calls if call.name not in self._doors]
        results = iter(await self._others(reply, others))
        self.to, self.reason = self._doors[moves[0].name].name, _reason(moves[0])
        self._talk.messages.append(reply.message)
        for call in calls:
            if call.name in self._doors:
                text = _MOVED if call is moves[0] else _NOT_MOVED
                self._talk.messages.append(observed(call, text.format(name=self.to)))
            else:
                self._talk.messages.append(observation(call, next(results)))
        return None

    async def _others(self, reply: ModelReplied, calls: list[ToolCall]) -> list[ToolReturned]:
        if not calls:
            return []
        message = replace(reply.message, tool_calls=tuple(calls))
        return await self._steps.act(replace(reply, message=message))


def _offer(name: str, member: Member) -> ToolSpec:
    said = _OFFER.format(name=member.name, description=member.description)
    return ToolSpec(name, said.strip(), _PARAMETERS)


def _reason(call: ToolCall) -> str:
    """What the model gives as its reason; it need not give any."""
    try:
        said = json.loads(call.arguments or "{}")
    except ValueError:
        return ""
    reason = said.get("reason") if isinstance(said, dict) else ""
    return reason if isinstance(reason, str) else ""
