"""Reason and act: ask the model, call the tools it wants, show it the results, until done.

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models" (2022),
with the model's native tool calls in the place of parsed text.
"""

from servers.agents.patterns.loop import Talk, tool_loop
from servers.agents.patterns.ports import Answer, Steps, Task


async def react(steps: Steps, task: Task) -> Answer:
    talk = Talk(
        list(task.messages), task.tools, task.max_iterations, output_schema=task.output_schema
    )
    return await tool_loop(steps, talk)
