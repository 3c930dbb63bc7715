"""What guardrails cost: scanning a text, and what a stream waits for.

    python -m bench.guardrails [--rounds 30] [--streams 20]

`scan`: texts of about 1,000 tokens (4,000 characters), whole and in pieces of a token each,
through one rule. `stream`: the time to the first token through gRPC StreamAgent, of a model that
sends 20 pieces 20 ms apart, of agents that differ in their rules only and take turns.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import uvloop
from astromesh.agents.v1 import agent_service_pb2, agent_service_pb2_grpc

from bench.mesh import AGENT, Mesh, mesh
from bench.processes import instant_model
from bench.report import Spread, table, write
from servers.agents.guardrails import Rules, compiled
from servers.agents.manifest.guardrails import Guardrail, Guardrails
from servers.domain.runs import Direction
from servers.kernel.native import COMPILED, pii, pii_scan

PIECES, GAP = 20, 20  # milliseconds
TOKEN = 4  # characters
PROSE = (
    "The order was shipped on 12 May 2026 at 10:30 and costs 1,299.00 in all; our customer has "
    "asked twice whether it can be sent to the office instead of the house by the river. "
)
PERSONAL = (
    "Call Ada at +1 (555) 123-4567 or write to ada.lovelace@example.com; card 4111 1111 1111 1111, "
    "account DE89 3704 0044 0532 0130 00, from 10.0.0.1. "
)
TEXTS = {
    "prose": PROSE * 24,
    "full of PII": PERSONAL * 27,
    "digits": "4111 1111 1111 1111 " * 200,
}
RULES = {
    "pii_detection": Guardrail(type="pii_detection"),
    "topic_filter, 10": Guardrail(
        type="topic_filter",
        action="redact",
        options={"topics": [f"forbidden topic {n}" for n in range(10)]},
    ),
    "content_filter, 20": Guardrail(
        type="content_filter",
        action="redact",
        options={"keywords": [f"codename{n}" for n in range(20)], "patterns": ["sk-[a-z0-9]{20}"]},
    ),
}
AGENTS = {
    "no rules": "",
    "pii_detection": "output: [{type: pii_detection}]",
    "topics, 20 keywords, PII": (
        "output: [{type: topic_filter, topics: [politics, self-harm]}, {type: pii_detection}, "
        "{type: content_filter, keywords: [" + ", ".join(f"codename{n}" for n in range(20)) + "]}]"
    ),
    "pattern without a bound": "output: [{type: content_filter, patterns: ['secret.*key']}]",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guardrails", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--streams", type=int, default=20, help="of each agent")
    options = parser.parse_args(arguments)
    scans = _scans(options.rounds)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port, _ = stack.enter_context(instant_model(folder, PIECES, GAP))
        ours = stack.enter_context(mesh(_config(folder, port), folder))
        streams = uvloop.run(_streams(ours, options.streams))
    told = {"compiled": COMPILED, "scan_us": scans, "first_token_ms": streams}
    write("guardrails", {"options": vars(options), **told})


# -- scanning ------------------------------------------------------------------------------


def _scans(rounds: int) -> dict[str, dict[str, list[float]]]:
    ways: dict[str, Callable[[str], object]] = {
        "PII, C++" if COMPILED else "PII": pii_scan,
        "PII, Python": pii.pii_scan,
    }
    for name, rule in RULES.items():
        rules = compiled(Guardrails(output=(rule,)))
        ways[name] = lambda text, rules=rules: rules.check(text, Direction.OUTPUT)  # type: ignore[misc]
        ways[f"{name}, streamed"] = lambda text, rules=rules: _streamed(rules, text)  # type: ignore[misc]
    seen: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for text_name, text in TEXTS.items():
            for name, way in ways.items():
                began = time.perf_counter()
                way(text)
                spent = (time.perf_counter() - began) * 1e6
                seen.setdefault(name, {}).setdefault(text_name, []).append(spent)
    rows = [(name, *(Spread.of(found[t]).told() for t in TEXTS)) for name, found in seen.items()]
    table("µs for a text of about 1,000 tokens: median (range)", ("", *TEXTS), rows)
    return seen


def _streamed(rules: Rules, text: str) -> None:
    guard = rules.stream(Direction.OUTPUT)
    for at in range(0, len(text), TOKEN):
        guard.feed(text[at : at + TOKEN])
    guard.close()


# -- streams -------------------------------------------------------------------------------


def _config(folder: Path, port: int) -> Path:
    config = folder / "config"
    (config / "agents").mkdir(parents=True)
    for number, rules in enumerate(AGENTS.values()):
        text = AGENT.format(port=port).replace("name: bench", f"name: bench-{number}")
        text += f"  guardrails: {{{rules}}}\n"
        (config / "agents" / f"bench-{number}.agent.yaml").write_text(text)
    return config


async def _streams(ours: Mesh, times: int) -> dict[str, list[float]]:
    firsts: dict[str, list[float]] = {name: [] for name in AGENTS}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ours.grpc_port}") as channel:
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        for turn in range(times + 2):
            for number, name in enumerate(AGENTS):
                spent = await _first_token(stub, f"bench-{number}", f"question {turn}")
                if turn >= 2:  # warm
                    firsts[name].append(spent * 1e3)
                await asyncio.sleep(0.01)
    base = statistics.median(firsts["no rules"])
    rows = []
    for name, found in firsts.items():
        added = f"{statistics.median(found) - base:+.2f}"
        rows.append((name, Spread.of(found).told(1), added))
    title = f"ms to the first token; the model sends {PIECES} pieces, {GAP} ms apart"
    table(title, ("rules", "median (range)", "added"), rows)
    return firsts


async def _first_token(
    stub: agent_service_pb2_grpc.AgentServiceStub, agent: str, question: str
) -> float:
    began, first = time.perf_counter(), 0.0
    request = agent_service_pb2.StreamAgentRequest(agent=agent, query=question)
    async for event in stub.StreamAgent(request):
        if event.WhichOneof("payload") == "text_delta":
            first = first or time.perf_counter() - began
    return first


if __name__ == "__main__":
    main()
