"""What was looked up for a run, on its way into the prompt: past the rules for results of tools."""

from dataclasses import replace

from servers.agents.guardrails import Checked
from servers.agents.runs.guarding import Blocked, checked
from servers.agents.runs.means import Means
from servers.agents.runs.work import Work
from servers.domain.runs import Direction


async def allowed(text: str, means: Means, introduction: str = "") -> Checked:
    """What the prompt may say of it, under its introduction; empty where there is nothing."""
    if not text:
        return Checked("")
    seen = await checked(means.rules, text, Direction.TOOL_RESULT)
    if seen.block or not introduction:
        return seen
    return replace(seen, text=f"{introduction}\n\n{seen.text}")


def shown(seen: Checked, work: Work) -> str:
    """Tell what the rules did, once what was looked up is told. Raises Blocked."""
    for report in seen.reports:
        work.journal.emit(report)
    if seen.block:
        work.block = work.block or seen.block
        raise Blocked(seen.block)
    return seen.text
