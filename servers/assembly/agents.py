"""The agents service: its stores, what it runs, and what goes on beside it."""

import time
from contextlib import AsyncExitStack

from servers.agents.adapters.opening import open_stores
from servers.agents.adapters.sqlite import lessons as sqlite_lessons
from servers.agents.background.housekeeping import keep_house
from servers.agents.background.teaching import Teacher
from servers.agents.background.webhooks import PAUSES, Policy, Webhooks
from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.versions import Versions
from servers.agents.convert.runs import run_json
from servers.agents.patterns.fan_out import parallel_fan_out
from servers.agents.patterns.pipeline import pipeline
from servers.agents.patterns.plan_and_execute import plan_and_execute
from servers.agents.patterns.ports import Pattern
from servers.agents.patterns.react import react
from servers.agents.patterns.supervisor import supervisor
from servers.agents.patterns.swarm import swarm
from servers.agents.planning import Planner
from servers.agents.runs.context.summarising import Summaries
from servers.agents.runs.memory.learning import Learning
from servers.agents.service import AgentRuntime, Limits
from servers.assembly.files import TakeAgents
from servers.config import MeshConfig
from servers.domain.semantic import Hear
from servers.domain.services import Memory, Rag, Router, Tools
from servers.kernel.background import for_ever
from servers.kernel.ids import new_id
from servers.kernel.netguard import allow, guarded_client
from servers.kernel.sqlite import open_database

PATTERNS: dict[str, Pattern] = {
    "react": react,
    "pipeline": pipeline,
    "plan_and_execute": plan_and_execute,
    "parallel_fan_out": parallel_fan_out,
    "supervisor": supervisor,
    "swarm": swarm,
}


async def open_agents(
    config: MeshConfig,
    declaring: Declaring,
    stack: AsyncExitStack,
    router: Router,
    memory: Memory,
    tools: Tools,
    rag: Rag,
    hearing: list[Hear],
) -> tuple[AgentRuntime, TakeAgents]:
    """And what is to be told of changes in the folder of agents. `hearing`: who is told of what
    is erased from memory, where memory is of this process."""
    enter = stack.enter_async_context
    kept = config.runtime.runs
    stores = await enter(
        open_stores(config.state_dir, time.time, new_id, dsn=kept.dsn, lease=kept.lease_seconds)
    )
    summaries = await enter(Summaries())
    lessons = await enter(
        open_database(config.state_dir / "lessons.db", sqlite_lessons.MIGRATIONS, erasing=True)
    )
    learning = await enter(Learning(sqlite_lessons.SqliteLessons(lessons), time.time))
    hearing.append(learning.drop)
    planner = Planner(router, memory, tools, rag, PATTERNS, time.time, summaries, learning)
    catalogue = Catalogue(stores.agents, declaring, planner.check, time.time)
    catalogue.take_files(config.agents)
    bounds = config.runtime.limits
    limits = Limits(bounds.active_runs, bounds.tenant_runs, bounds.drain_seconds)
    webhooks = _webhooks(config)
    versions = Versions(stores.versions, catalogue, declaring, time.time)
    runtime = AgentRuntime(
        catalogue,
        planner,
        versions,
        stores.runs,
        stores.leases,
        stores.trees,
        time.time,
        new_id,
        limits,
        webhooks,
        learning.drop_of,
    )
    learning.start(Teacher(memory, router, catalogue.runnable, learning.found).teach)
    await enter(runtime)
    if webhooks.secret:
        client = await enter(guarded_client(allow(webhooks.plain)))
        teller = Webhooks(stores.outbox, client, webhooks, run_json, time.time)
        await enter(for_ever(teller.deliver()))
    house = keep_house(stores.retention, time.time, kept.ttl, kept.compact_after)
    await enter(for_ever(house))
    return runtime, catalogue.take_files


def _webhooks(config: MeshConfig) -> Policy:
    settings = config.runtime.webhooks
    hosts = (host.lower().rstrip(".") for host in settings.allowed_hosts)
    pauses = PAUSES if settings.retry_after is None else settings.retry_after
    return Policy(settings.secret, frozenset(hosts), pauses)
