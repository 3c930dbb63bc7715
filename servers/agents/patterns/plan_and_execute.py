"""Plan first, then do the steps, those at once that don't depend on one another.

After Wang et al., "Plan-and-Solve Prompting" (2023), with dependencies between the steps.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from servers.agents.patterns.loop import Talk
from servers.agents.patterns.parts import Outcome, attempted, offered, planned, synthesis
from servers.agents.patterns.plans import MOST_STEPS, PlannedStep, plan_of
from servers.agents.patterns.ports import Answer, Steps, Suspended, Task
from servers.agents.patterns.together import together
from servers.domain.run_events import BranchKind

_PLAN = (
    "{question}\n\n[Do not answer this yet: make a plan]\n"
    "Each step is done by somebody who sees this request, the step's task, and the results of "
    "the steps that it depends on, and nothing else. Steps that do not depend on one another "
    "are done at the same time. At most {most} steps, and no more than help.\n"
    "Tools that they have:{tools}\n"
    'Answer with JSON and nothing else: {{"steps": [{{"id": "...", "task": "...", '
    '"depends_on": ["..."]}}]}}'
)
_AGAIN = (
    "\n\n[Some steps of the plan have failed]\n{outcomes}\n\n"
    "Plan only what is still to be done, in another way where that helps. New steps may depend "
    "on those that are done, by their ids."
)
_WORK = "{question}\n\n[This is one step of a plan; do this step only]\n{task}"
_BEFORE = "\n\n[Results of earlier steps]\n{results}"


async def plan_and_execute(steps: Steps, task: Task) -> Answer:
    """Text that is no plan is one step: the question as it is."""
    outcomes: dict[str, Outcome] = {}
    for number in range(1, task.shape.max_replans + 2):
        done = {key: each for key, each in outcomes.items() if not each.failure}
        key = "plan" if number == 1 else f"plan.{number}"
        plan = plan_of(await planned(steps, key, task, _prompt(task, outcomes)), done)
        if not plan and number == 1:
            plan = (PlannedStep("1", task.question),)
        fresh = await _Round(steps, task, number, plan, done).outcomes()
        outcomes |= fresh
        if not any(each.failure for each in fresh.values()):
            break
    return await synthesis(steps, task, outcomes.values())


def _prompt(task: Task, outcomes: Mapping[str, Outcome]) -> str:
    prompt = _PLAN.format(question=task.question, most=MOST_STEPS, tools=offered(task))
    return prompt + _AGAIN.format(outcomes=_listed(outcomes)) if outcomes else prompt


def _listed(outcomes: Mapping[str, Outcome]) -> str:
    return "\n\n".join(f"{key}: {each.task}\n{each.told()}" for key, each in outcomes.items())


class _Round:
    """The steps of one plan. Each waits for those it depends on, then for its turn."""

    def __init__(
        self,
        steps: Steps,
        task: Task,
        number: int,
        plan: Sequence[PlannedStep],
        done: Mapping[str, Outcome],
    ) -> None:
        self._steps, self._task, self._number, self._plan = steps, task, number, plan
        self._turns = asyncio.Semaphore(task.shape.max_parallel)
        self._outcomes = dict(done)
        self._ended = {step.id: asyncio.Event() for step in plan}

    async def outcomes(self) -> dict[str, Outcome]:
        outcomes = await together([partial(self._one, step) for step in self._plan])
        return {step.id: each for step, each in zip(self._plan, outcomes, strict=True)}

    async def _one(self, step: PlannedStep) -> Outcome:
        try:
            outcome = self._outcomes[step.id] = await self._outcome(step)
            return outcome
        finally:
            self._ended[step.id].set()

    async def _outcome(self, step: PlannedStep) -> Outcome:
        before = {key: await self._after(key) for key in step.depends_on}
        if failed := [key for key, each in before.items() if each.failure]:
            return Outcome(step.task, failure=f"not begun, because step {failed[0]!r} failed")
        async with self._turns:
            key, talk = f"{self._number}.{step.id}", self._talk(step, before)
            return await attempted(self._steps, key, BranchKind.STEP, step.id, step.task, talk)

    async def _after(self, key: str) -> Outcome:
        if key in self._ended:
            await self._ended[key].wait()
        if key not in self._outcomes:  # it waits for something from outside
            raise Suspended
        return self._outcomes[key]

    def _talk(self, step: PlannedStep, before: Mapping[str, Outcome]) -> Talk:
        task, prompt = self._task, self._task.question
        if step.task != task.question:
            prompt = _WORK.format(question=task.question, task=step.task)
        if before:
            prompt += _BEFORE.format(results=_listed(before))
        return Talk(task.asking(prompt), task.tools, task.max_iterations, "executor")
