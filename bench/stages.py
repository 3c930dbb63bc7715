"""Where the time of one agent run goes: µs of work per stage, and the hottest functions.

    python -m bench.stages [--seconds 4] [--callers 1 64] [--profile 64] [--durability step]

The mesh runs with clocks at its seams (`bench.instrumented`). What no stage accounts for is
gRPC, the event loop and the system calls. With `--profile N` a second mesh is run under
cProfile with N callers, and its hottest functions are shown.
"""

import argparse
import pstats
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import kill
from pathlib import Path

import orjson

from bench.agent_runs import load
from bench.callers import Result
from bench.instrumented import STAGES
from bench.load import Load
from bench.mesh import mesh, write_config
from bench.processes import ROOT, instant_model
from bench.report import console, table, write

HOTTEST = 25


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--profile", type=int, default=0, help="callers; 0 leaves it out")
    parser.add_argument("--durability", default="step")
    options = parser.parse_args(arguments)
    measured: dict[str, object] = {"options": vars(options)}
    columns = {}
    for callers in options.callers:
        plain, _ = _measured("plain", callers, options)
        watched, out = _measured("stages", callers, options)
        columns[callers] = _stages(plain, watched, orjson.loads(out))
    _tell(columns)
    measured["stages"] = {str(callers): stages for callers, stages in columns.items()}
    if options.profile:
        result, out = _measured("profile", options.profile, options)
        measured["hottest"] = _hottest(result, out)
    write("stages", measured)


def _measured(mode: str, callers: int, options: argparse.Namespace) -> tuple[Result, bytes]:
    """How the load went, and what the mesh wrote of itself."""
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "out"
        start = [sys.executable, "-m", "bench.instrumented", mode, str(out)]
        with ExitStack() as stack:
            port, _ = stack.enter_context(instant_model(folder))
            config = write_config(folder, port)
            ours = stack.enter_context(mesh(config, folder, start=[] if mode == "plain" else start))
            wanted = Load("grpc", ours.grpc_port, callers, options.seconds)
            wanted = replace(wanted, durability=options.durability, watched={"server": ours.pid})
            load(replace(wanted, seconds=1.0))  # warm up
            if mode != "plain":
                kill(ours.pid, signal.SIGUSR1)
                time.sleep(0.2)
            # All that the mesh does from here on is the measurement.
            done = load(replace(wanted, warmup=0.0))
            if done.wrong:
                raise SystemExit(f"a wrong answer: {done.complaint}")
        return done, out.read_bytes() if out.exists() else b""


def _stages(plain: Result, watched: Result, told: dict[str, dict[str, float]]) -> dict[str, float]:
    """µs of each stage in a run. "rest" is what the unwatched mesh needs beyond them."""
    runs = max(told["entered"].get("prompt", 0), 1)
    spent = {stage: told["spent"].get(stage, 0.0) / runs * 1e6 for stage in STAGES}
    used = sum(cpu for name, cpu in plain.cpu.items() if name.startswith("server/"))
    whole = used / plain.requests * 1e6
    return {
        **spent,
        "gRPC core, event loop, system calls": whole - sum(spent.values()),
        "CPU of a run": whole,
        "wall time of a run, as its caller sees it": plain.p50 * 1e3,
    }


def _tell(columns: dict[int, dict[str, float]]) -> None:
    stages = next(iter(columns.values()))
    rows = [(stage, *(f"{each[stage]:,.0f}" for each in columns.values())) for stage in stages]
    heads = [f"µs, {callers} callers" if callers > 1 else "µs, 1 caller" for callers in columns]
    table("where the time of one run goes (gRPC, RunAgent)", ("stage", *heads), rows)


def _hottest(result: Result, profile: bytes) -> list[dict[str, object]]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(profile)
        file.flush()
        stats = pstats.Stats(file.name)
    rows = []
    for (path, line, name), (_, calls, own, total, _) in stats.stats.items():  # type: ignore[attr-defined]
        rows.append((own, total, calls, _place(path, line, name)))
    rows.sort(reverse=True)
    hottest = [
        {
            "function": place,
            "own_us": own / result.requests * 1e6,
            "total_us": total / result.requests * 1e6,
            "calls": calls / result.requests,
        }
        for own, total, calls, place in rows[:HOTTEST]
    ]
    table(
        f"hottest functions by own time, per run ({result.requests} runs under cProfile)",
        ("function", "own µs", "total µs", "calls"),
        [
            (str(h["function"]), f"{h['own_us']:.1f}", f"{h['total_us']:.1f}", f"{h['calls']:.1f}")
            for h in hottest
        ],
    )
    console.print("cProfile makes every Python call dearer; compare within the table only.")
    return hottest


def _place(path: str, line: int, name: str) -> str:
    if path == "~":
        return name
    short = path.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2]
    return f"{short}:{line} {name}"


if __name__ == "__main__":
    main()
