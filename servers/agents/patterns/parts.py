"""Parts of the work that may fail without taking the rest along, and what is made of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from servers.agents.patterns.loop import Talk, last_word, tool_loop
from servers.agents.patterns.ports import Answer, Steps, Task
from servers.domain.run_events import BranchKind
from servers.domain.runs import StopReason
from servers.kernel.errors import AstromeshError, DataLost

_SYNTHESIS = (
    "{question}\n\n[The work on this was divided; this is what came of it]\n{outcomes}\n\n"
    "Write the final answer to the request from these results. Say so where something that "
    "matters is missing because a part failed."
)
_OF_THE_RUN = ("FENCED", "NOT_DURABLE")
_NOTHING = "(nothing)"
_UNFINISHED = "(not finished: its rounds were used up)\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a part: a text, or why there is none."""

    task: str
    text: str = ""
    failure: str = ""
    error: AstromeshError | None = None  # None: it was not begun

    def told(self) -> str:
        return f"FAILED: {self.failure}" if self.failure else self.text or _NOTHING


async def attempted(
    steps: Steps, key: str, kind: BranchKind, name: str, task: str, talk: Talk
) -> Outcome:
    """Whatever comes of it. What is wrong with the run itself is no part's affair."""
    try:
        async with steps.branch(key, kind, name, task) as part:
            answer = await tool_loop(part, talk)
    except AstromeshError as error:
        if isinstance(error, DataLost) or error.reason in _OF_THE_RUN:
            raise
        return Outcome(task, failure=error.message, error=error)
    cut = answer.stop_reason is StopReason.MAX_ITERATIONS
    return Outcome(task, (_UNFINISHED if cut else "") + answer.text)


async def planned(steps: Steps, key: str, task: Task, prompt: str) -> str:
    """What the planner says; a part of its own, because it is no part of the answer. Half a
    plan is none.

    It is asked in words, not by an `output_schema`: what doesn't fit would be asked for again,
    or be an error, where it can be read with patience or be one step.
    """
    async with steps.branch(key, BranchKind.STEP, "plan") as part:
        answer = await last_word(part, Talk(task.asking(prompt), role="planner"))
    return answer.text if answer.stop_reason is StopReason.ANSWER else ""


async def synthesis(steps: Steps, task: Task, outcomes: Iterable[Outcome]) -> Answer:
    """The answer that is made of all outcomes. Raises the first error where none is good."""
    outcomes = list(outcomes)
    if all(each.failure for each in outcomes):
        raise next(each.error for each in outcomes if each.error)
    listed = "\n\n".join(
        f"{number}. {each.task}\n{each.told()}" for number, each in enumerate(outcomes, 1)
    )
    prompt = _SYNTHESIS.format(question=task.question, outcomes=listed)
    talk = Talk(task.asking(prompt), role="synthesizer", output_schema=task.output_schema)
    return await last_word(steps, talk)


def offered(task: Task) -> str:
    """The tools, as a planner reads of them."""
    return "".join(f"\n- {tool.name}: {tool.description}" for tool in task.tools) or " none"
