"""One agent that leads others: it hands work out, reads what comes back, and says when it is
done. The others are its tools, and all that it has.
"""

from servers.agents.patterns.loop import Talk, tool_loop
from servers.agents.patterns.ports import Answer, Steps, Task

ROLE = "supervisor"


async def supervisor(steps: Steps, task: Task) -> Answer:
    messages = list(task.messages)
    talk = Talk(messages, task.tools, task.max_iterations, ROLE, task.output_schema)
    return await tool_loop(steps, talk)
