"""Agent runs a second, their latency and their CPU, next to the upstream package.

    python -m bench.agent_runs [--rounds 3] [--seconds 2] [--callers 1 16 64] [--pieces 1]

Both sides load the same agent and ask the same instant model. All servers are up all the
time, one is loaded at a time, and every round goes once through all of them, so that a slow
moment of the machine meets each side.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.progress import track

from bench import upstream
from bench.callers import Result
from bench.choosing import with_part
from bench.load import Load
from bench.mesh import mesh, write_config
from bench.processes import instant_model
from bench.report import Spread, console, table, write

THEIRS = "upstream REST"
COLUMNS = (
    *("", "callers", "runs/s", "p50 ms", "p99 ms", "µs CPU/run"),
    *("client", "model", "others", "ratio"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One way to have an agent run."""

    name: str
    face: str
    port: int
    server: int  # process
    durability: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    side: str
    callers: int
    number: int
    result: Result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.agent_runs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--pieces", type=int, default=1, help="of the model's answer")
    parser.add_argument("--only", default="", help="sides with this in their name")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port, model = stack.enter_context(instant_model(Path(folder), options.pieces))
        every = {side.name: side for side in _sides(stack, Path(folder), port)}
        sides = [every[name] for name in with_part(options.only, list(every))]
        rounds = _measured(sides, model.pid, options)
    _tell(rounds, options)


def load(wanted: Load) -> Result:
    """Have a process of its own do it."""
    command = [sys.executable, "-m", "bench.load", orjson.dumps(wanted).decode()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the load of {wanted} broke:\n{done.stderr[-2000:]}")
    return Result(**orjson.loads(done.stdout))


def _sides(stack: ExitStack, folder: Path, model_port: int) -> list[Side]:
    config = write_config(folder, model_port)
    ours = stack.enter_context(mesh(config, folder))
    sides = [
        Side("gRPC, step", "grpc", ours.grpc_port, ours.pid, "step"),
        Side("gRPC, none", "grpc", ours.grpc_port, ours.pid, "none"),
        Side("REST, step", "rest", ours.http_port, ours.pid, "step"),
        Side("REST, none", "rest", ours.http_port, ours.pid, "none"),
    ]
    if (python := upstream.installed()) is None:
        console.print(upstream.SKIPPED)
        return sides
    theirs = stack.enter_context(upstream.upstream(python, config, folder))
    return [*sides, Side(THEIRS, "rest", theirs.port, theirs.pid)]


def _measured(sides: list[Side], model: int, options: argparse.Namespace) -> list[Round]:
    def measure(side: Side, callers: int, seconds: float) -> Result:
        watched = {"server": side.server, "model": model}
        load_ = Load(
            side.face, side.port, callers, seconds, durability=side.durability, watched=watched
        )
        return load(load_)

    for side in sides:  # warm up: imports, caches, connections
        measure(side, 16, 1.0)
    work = [
        (callers, number, side)
        for callers in options.callers
        for number in range(options.rounds)
        for side in sides
    ]
    return [
        Round(side.name, callers, number, measure(side, callers, options.seconds))
        for callers, number, side in track(work, "agent runs", console=console)
    ]


def _tell(rounds: list[Round], options: argparse.Namespace) -> None:
    groups: dict[tuple[int, str], list[Round]] = {}
    for each in rounds:
        groups.setdefault((each.callers, each.side), []).append(each)
    rows, summary = [], []
    for (callers, side), group in groups.items():
        theirs = groups.get((callers, THEIRS))
        row, facts = _row(callers, side, [each.result for each in group], theirs)
        rows.append(row)
        summary.append(facts)
    table("agent runs: median and range of the rounds", COLUMNS, rows)
    console.print(
        "µs CPU/run: of all processes of the server (Envoy's part in brackets). client, model,\n"
        "others: cores used by the load, by the instant model and by all else that runs on\n"
        "this machine: where that is much, repeat. ratio: runs/s over upstream's of the same round."
    )
    for fault in {each.result.complaint for each in rounds if each.result.complaint}:
        console.print(f"[red]wrong answers, not counted[/]: {fault}", highlight=False)
    write("agent_runs", {"options": vars(options), "summary": summary, "rounds": rounds})


def _row(
    callers: int, side: str, results: list[Result], theirs: list[Round] | None
) -> tuple[tuple[str, ...], dict[str, object]]:
    rate = Spread.of([each.rate for each in results])
    p50, p99 = Spread.of([each.p50 for each in results]), Spread.of([each.p99 for each in results])
    cpu = Spread.of([_server(each) for each in results])
    envoy = Spread.of([each.cpu.get("server/envoy", 0) / each.requests * 1e6 for each in results])
    shares = {
        name: Spread.of([used(each) / each.seconds for each in results])
        for name, used in (("client", _client), ("model", _model), ("others", _others))
    }
    ratio = _ratio(results, theirs) if theirs and side != THEIRS else None
    row = (
        side,
        str(callers),
        rate.told(),
        f"{p50.median:,.1f}",
        p99.told(),
        f"{cpu.median:,.0f}" + (f" ({envoy.median:,.0f})" if side.startswith("REST") else ""),
        f"{shares['client'].median:.2f}",
        f"{shares['model'].median:.2f}",
        f"{shares['others'].median:.2f}",
        f"{ratio.told(1)}x" if ratio else "",
    )
    facts = {
        "side": side,
        "callers": callers,
        "rate": asdict(rate),
        "p50_ms": asdict(p50),
        "p99_ms": asdict(p99),
        "server_us_per_run": asdict(cpu),
        "envoy_us_per_run": asdict(envoy),
        "ratio": asdict(ratio) if ratio else None,
        "wrong": sum(each.wrong for each in results),
    }
    return row, facts


def _client(result: Result) -> float:
    return result.cpu["client"]


def _model(result: Result) -> float:
    return _of(result, "model/")


def _others(result: Result) -> float:
    ours = _client(result) + _model(result) + _of(result, "server/")
    return max(result.cpu["machine"] - ours, 0.0)


def _server(result: Result) -> float:
    return _of(result, "server/") / result.requests * 1e6


def _of(result: Result, prefix: str) -> float:
    return sum(used for name, used in result.cpu.items() if name.startswith(prefix))


def _ratio(ours: list[Result], theirs: list[Round]) -> Spread:
    pairs = zip(ours, theirs, strict=True)
    return Spread.of([mine.rate / other.result.rate for mine, other in pairs])


if __name__ == "__main__":
    main()
