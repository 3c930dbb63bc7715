"""Stage after stage, each on what the one before gave, and always with the question at hand."""

from servers.agents.patterns.loop import Talk, tool_loop
from servers.agents.patterns.ports import Answer, Stage, Steps, Task
from servers.domain.run_events import BranchKind

_PROMPTS = {
    "analyze": (
        "Analyze the request: what is asked for, what is known, what is missing, and how it is "
        "best answered. Do not answer it yet."
    ),
    "process": "Do the work that the analysis calls for, and give its results in full.",
    "synthesize": (
        "Write the final answer to the request from these results. Do not speak of stages."
    ),
}
_OTHER = "Do the part of the work that is called {name!r}."
_FIRST = "{question}\n\n[Stage {number} of {count}: {name}]\n{prompt}"
_LATER = _FIRST + "\n\n[What the stage {before!r} gave]\n{given}"
_NOTHING = "(nothing)"


async def pipeline(steps: Steps, task: Task) -> Answer:
    """The last stage's answer. Each stage has rounds and, where they are declared, models of
    its own: those of the role that has its name."""
    stages, answer, before = task.shape.stages, Answer(""), ""
    for number, stage in enumerate(stages, 1):
        talk = Talk(
            task.asking(_told(task, stage, number, before, answer.text)),
            task.tools,
            task.max_iterations,
            stage.name,
            task.output_schema if number == len(stages) else None,
        )
        async with steps.branch(stage.name, BranchKind.STAGE, stage.name, answer.text) as part:
            answer = await tool_loop(part, talk)
        before = stage.name
    return answer


def _told(task: Task, stage: Stage, number: int, before: str, given: str) -> str:
    return (_LATER if before else _FIRST).format(
        question=task.question,
        number=number,
        count=len(task.shape.stages),
        name=stage.name,
        prompt=stage.prompt or _PROMPTS.get(stage.name) or _OTHER.format(name=stage.name),
        before=before,
        given=given or _NOTHING,
    )
