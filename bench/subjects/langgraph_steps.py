"""Durable steps of LangGraph: a graph of one node that goes round, with its Postgres saver.

Runs in an environment of its own: ``python langgraph_steps.py DSN CONCURRENCY SECONDS``.
Prints how many steps a second were on disk (`durability="sync"`), and how long each took.
"""

import asyncio
import json
import operator
import sys
import time
from typing import Annotated, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

RESULT = "x" * 300
STEPS = 50  # of one run; a new thread then, so that its state stays small


class State(TypedDict):
    last: str
    steps: Annotated[int, operator.add]


async def step(state: State) -> State:
    return {"last": RESULT, "steps": 1}


def built(saver: AsyncPostgresSaver):
    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["steps"] >= STEPS else "step")
    return graph.compile(checkpointer=saver)


async def one(graph, name: str, until: float, waits: list[float]) -> None:
    number = 0
    while time.perf_counter() < until:
        number += 1
        thread = {"configurable": {"thread_id": f"{name}-{number}"}, "recursion_limit": STEPS + 5}
        last = time.perf_counter()
        start = {"last": "", "steps": 0}
        async for _ in graph.astream(start, thread, stream_mode="updates", durability="sync"):
            now = time.perf_counter()
            waits.append(now - last)
            last = now
            if now >= until:
                return


async def main(dsn: str, concurrency: int, seconds: float) -> None:
    waits: list[float] = []
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(
        dsn, min_size=concurrency, max_size=concurrency, kwargs=settings
    ) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        graph = built(saver)
        await one(graph, "warm", time.perf_counter() + 0.3, [])
        until = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(concurrency):
                tasks.create_task(one(graph, f"r{number}", until, waits))
    waits.sort()
    told = {"rate": len(waits) / seconds, "p50": waits[len(waits) // 2]}
    print(json.dumps({**told, "p99": waits[len(waits) * 99 // 100]}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
