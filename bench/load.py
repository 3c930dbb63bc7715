"""Puts a load on one server and tells how it went: a process of its own.

    python -m bench.load '{"face": "grpc", "port": 50051, "callers": 16, ...}'

Each caller asks its next question when the last one is answered. An answer counts only when
it is the model's answer to that very question.
"""

import asyncio
import gc
import os
import sys
from dataclasses import asdict, dataclass, field

import orjson
import uvloop
from astromesh.agents.v1 import agent_service_pb2, run_pb2

from bench import grpc_connection, http_connection
from bench.callers import Ask, Callers, Result
from bench.instant_model import answer_to

METHOD = "/astromesh.agents.v1.AgentService/RunAgent"
GRPC_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Load:
    face: str  # "grpc" | "rest"
    port: int
    callers: int
    seconds: float
    agent: str = "bench"
    durability: str = ""  # "none" | "exit" | "step"; empty: not said
    sessions: bool = True  # each caller has one; else each run
    warmup: float = 0.5  # seconds
    least: int = 0  # requests
    most: int = 1_000_000
    watched: dict[str, int] = field(default_factory=dict)  # name -> process whose CPU is counted

    def session(self, caller: int) -> str:
        return f"caller-{os.getpid()}-{caller}" if self.sessions else ""


async def _grpc(load: Load) -> list[Ask]:
    count = min(GRPC_CONNECTIONS, load.callers)
    open_all = (grpc_connection.connect(load.port, METHOD) for _ in range(count))
    connections = await asyncio.gather(*open_all)

    def asking(number: int) -> Ask:
        connection, session = connections[number % count], load.session(number)

        async def ask(question: str) -> str:
            request = agent_service_pb2.RunAgentRequest(
                agent=load.agent, query=question, session_id=session, durability=load.durability
            )
            try:
                answer = await connection.unary(request.SerializeToString())
            except grpc_connection.CallFailed as failed:
                return str(failed)
            run = run_pb2.Run.FromString(answer)
            right = run.state == run_pb2.RUN_STATE_COMPLETED and run.answer == answer_to(question)
            return "" if right else str(run)

        return ask

    return [asking(number) for number in range(load.callers)]


async def _rest(load: Load) -> list[Ask]:
    path = f"/v1/agents/{load.agent}/run"
    said = {"durability": load.durability} if load.durability else {}
    open_all = (http_connection.connect(load.port) for _ in range(load.callers))
    connections = await asyncio.gather(*open_all)

    def asking(number: int) -> Ask:
        connection, session = connections[number], load.session(number)

        async def ask(question: str) -> str:
            body = orjson.dumps({"query": question, "session_id": session, **said})
            status, answer = await connection.post(path, body)
            right = status == 200 and orjson.loads(answer).get("answer") == answer_to(question)
            return "" if right else f"{status} {answer[:500]!r}"

        return ask

    return [asking(number) for number in range(load.callers)]


async def _run(load: Load) -> Result:
    asks = await (_grpc if load.face == "grpc" else _rest)(load)
    return await Callers(load, asks).measured()


def main() -> None:
    load = Load(**orjson.loads(sys.argv[1]))
    gc.disable()  # bounded by `most`
    print(orjson.dumps(asdict(uvloop.run(_run(load)))).decode())


if __name__ == "__main__":
    main()
