"""Divide the question, work on all parts at once, and put the results together."""

from functools import partial
from textwrap import shorten

from servers.agents.patterns.loop import Talk
from servers.agents.patterns.parts import attempted, offered, planned, synthesis
from servers.agents.patterns.plans import MOST_STEPS, plan_of
from servers.agents.patterns.ports import Answer, Steps, Task
from servers.agents.patterns.together import together
from servers.domain.run_events import BranchKind

_PLAN = (
    "{question}\n\n[Do not answer this yet]\n"
    "Divide it into subtasks that can be worked on at the same time, by people who do not see "
    "one another's results: at most {most}, and no more than help.\n"
    "Tools that they have:{tools}\n"
    'Answer with JSON and nothing else: {{"subtasks": ["...", "..."]}}'
)
_WORK = "{question}\n\n[Work on this part of it only; others do the rest]\n{task}"


async def parallel_fan_out(steps: Steps, task: Task) -> Answer:
    """A text that names no subtasks is one subtask: the question as it is."""
    prompt = _PLAN.format(question=task.question, most=MOST_STEPS, tools=offered(task))
    said = plan_of(await planned(steps, "plan", task, prompt))
    subtasks = [each.task for each in said] or [task.question]
    jobs = [
        partial(
            attempted,
            steps,
            str(number),
            BranchKind.BRANCH,
            shorten(subtask, 60, placeholder=" ..."),
            subtask,
            _talk(task, subtask),
        )
        for number, subtask in enumerate(subtasks, 1)
    ]
    outcomes = await together(jobs, task.shape.max_parallel)
    return await synthesis(steps, task, outcomes)


def _talk(task: Task, subtask: str) -> Talk:
    prompt = task.question
    if subtask != prompt:
        prompt = _WORK.format(question=task.question, task=subtask)
    return Talk(task.asking(prompt), task.tools, task.max_iterations, "executor")
