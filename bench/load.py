"""Puts a load on one server and tells how it went: a process of its own.

    python -m bench.load '{"face": "grpc", "port": 50051, "callers": 16, ...}'

Each caller asks its next question when the last one is answered. An answer counts only when
it is the model's answer to that very question.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson
import psutil
import uvloop
from astromesh.agents.v1 import agent_service_pb2, run_pb2

from bench import grpc_connection, http_connection
from bench.instant_model import answer_to
from bench.processes import cpu_seconds

METHOD = "/astromesh.agents.v1.AgentService/RunAgent"
GRPC_CONNECTIONS = 4

Ask = Callable[[str, str], Awaitable[str]]  # question, session -> what is wrong with the answer


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
    most: int = 1_000_000  # requests
    watched: dict[str, int] = field(default_factory=dict)  # name -> process whose CPU is counted


@dataclass(frozen=True, slots=True)
class Result:
    requests: int
    wrong: int
    seconds: float
    p50: float  # milliseconds
    p99: float
    cpu: dict[str, float]  # seconds of CPU, by "name/program"; "client" is this process,
    # and "machine" is everything on it, the measurement included
    complaint: str = ""  # the first wrong answer

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Callers:
    def __init__(self, load: Load, asks: list[Ask]) -> None:
        self._load = load
        self._asks = asks
        self._measuring = False
        self._stopped = False
        self._enough = asyncio.Event()
        self._waits: list[float] = []
        self._wrong = 0
        self._complaint = ""

    async def measured(self) -> Result:
        load = self._load
        async with asyncio.TaskGroup() as group:
            for number, ask in enumerate(self._asks):
                group.create_task(self._caller(number, ask))
            await asyncio.sleep(load.warmup)
            self._measuring, began, used = True, time.perf_counter(), _cpu(load)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), load.seconds)
            self._measuring, seconds, spent = False, time.perf_counter() - began, _cpu(load)
            self._stopped = True
        waits = sorted(self._waits) or [0.0]
        return Result(
            len(self._waits),
            self._wrong,
            seconds,
            waits[len(waits) // 2] * 1e3,
            waits[len(waits) * 99 // 100] * 1e3,
            {name: round(spent[name] - used.get(name, 0.0), 3) for name in spent},
            self._complaint,
        )

    async def _caller(self, number: int, ask: Ask) -> None:
        asked, session = 0, f"caller-{os.getpid()}-{number}" if self._load.sessions else ""
        while not self._stopped:
            asked += 1
            began = time.perf_counter()
            fault = await ask(f"question {number}-{asked}", session)
            if fault:
                self._wrong += 1
                self._complaint = self._complaint or fault
                await asyncio.sleep(0.01)  # an error must not be a fast answer
            elif self._measuring:
                self._waits.append(time.perf_counter() - began)
                if len(self._waits) >= self._load.most:
                    self._enough.set()


def _cpu(load: Load) -> dict[str, float]:
    times = os.times()
    everything = psutil.cpu_times()
    machine = sum(everything) - everything.idle - getattr(everything, "iowait", 0.0)
    used = {"client": times.user + times.system, "machine": machine}
    for name, pid in load.watched.items():
        for program, seconds in cpu_seconds(pid).items():
            used[f"{name}/{program}"] = seconds
    return used


async def _grpc(load: Load) -> list[Ask]:
    count = min(GRPC_CONNECTIONS, load.callers)
    open_all = (grpc_connection.connect(load.port, METHOD) for _ in range(count))
    connections = await asyncio.gather(*open_all)
    durability = load.durability

    def asking(connection: grpc_connection.GrpcConnection) -> Ask:
        async def ask(question: str, session: str) -> str:
            request = agent_service_pb2.RunAgentRequest(
                agent=load.agent, query=question, session_id=session, durability=durability
            )
            try:
                answer = await connection.unary(request.SerializeToString())
            except grpc_connection.CallFailed as failed:
                return str(failed)
            run = run_pb2.Run.FromString(answer)
            right = run.state == run_pb2.RUN_STATE_COMPLETED and run.answer == answer_to(question)
            return "" if right else str(run)

        return ask

    return [asking(connections[number % count]) for number in range(load.callers)]


async def _rest(load: Load) -> list[Ask]:
    path = f"/v1/agents/{load.agent}/run"
    said = {"durability": load.durability} if load.durability else {}
    open_all = (http_connection.connect(load.port) for _ in range(load.callers))
    connections = await asyncio.gather(*open_all)

    def asking(connection: http_connection.HttpConnection) -> Ask:
        async def ask(question: str, session: str) -> str:
            body = orjson.dumps({"query": question, "session_id": session, **said})
            status, answer = await connection.post(path, body)
            right = status == 200 and orjson.loads(answer).get("answer") == answer_to(question)
            return "" if right else f"{status} {answer[:500]!r}"

        return ask

    return [asking(connection) for connection in connections]


async def _run(load: Load) -> Result:
    asks = await (_grpc if load.face == "grpc" else _rest)(load)
    return await Callers(load, asks).measured()


def main() -> None:
    load = Load(**orjson.loads(sys.argv[1]))
    gc.disable()  # bounded by `most`
    print(orjson.dumps(asdict(uvloop.run(_run(load)))).decode())


if __name__ == "__main__":
    main()
