"""How a run goes to work, at first or once more: what it tells, and what it sets to its pattern."""

from dataclasses import replace

from servers.agents.patterns.ports import Task
from servers.agents.runs.context.knowledge import for_the_question
from servers.agents.runs.context.recalling import looked_back
from servers.agents.runs.context.remembering import with_summary
from servers.agents.runs.plan import Plan
from servers.agents.runs.work import Work
from servers.domain.chat import Message, Role, says
from servers.domain.run_events import Restarted, StateChanged
from servers.domain.runs import Run, RunState


def begun(run: Run, work: Work, crashed: bool) -> Run:
    """Tell that it works; after a crash, that it goes on. Returns it as it is then."""
    if crashed:
        work.journal.emit(Restarted(run.attempt, work.replay.last_step))
    if not work.replay.running:
        work.journal.emit(StateChanged(RunState.RUNNING))
    if run.state is RunState.RUNNING:
        return run
    started = run.started_at or work.now()
    return replace(run, state=RunState.RUNNING, started_at=started, waiting=())


async def task_of(run: Run, plan: Plan, work: Work) -> Task:
    """What its pattern is to do. Raises Blocked."""
    messages = await _conversation(run, plan, work)
    shape = plan.shape(run)
    return Task(messages, plan.tools, plan.max_iterations, plan.output_schema, shape)


async def _conversation(run: Run, plan: Plan, work: Work) -> tuple[Message, ...]:
    past, remembered = await looked_back(plan.memory, plan.recalling, work, plan.means)
    system = with_summary(plan.prompt(run), past.summary)
    found = await for_the_question(plan.knowledge, work, plan.means) if plan.knowledge else ""
    if plan.looks_up:  # no model is shown what the run could not be shown again
        await work.journal.commit()
    system = "\n\n".join(filter(None, (system, remembered, found)))
    head = (says(Role.SYSTEM, system),) if system else ()
    return (*head, *past.messages, says(Role.USER, run.query))
