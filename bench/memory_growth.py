"""Whether the mesh keeps anything of the runs it has done: its memory over 20,000 of them.

    python -m bench.memory_growth [--runs 20000] [--durability step]

Loads the mesh by gRPC with 16 callers, each run in a session of its own, and looks at the
resident memory after every thousand runs. The slope is that of the last three quarters.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from bench.agent_runs import load
from bench.load import Load
from bench.mesh import mesh, write_config
from bench.processes import instant_model, resident_bytes
from bench.report import console, table, write

BATCH = 1000
CALLERS = 16


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory_growth", description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--durability", default="step")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port, _ = stack.enter_context(instant_model(Path(folder)))
        ours = stack.enter_context(mesh(write_config(Path(folder), port), Path(folder)))
        wanted = Load("grpc", ours.grpc_port, CALLERS, 600, durability=options.durability)
        wanted = replace(wanted, sessions=False, warmup=0, most=BATCH)
        samples = [(0, resident_bytes(ours.pid))]
        for _ in track(range(options.runs // BATCH), "memory", console=console):
            done = load(wanted)
            if done.wrong:
                raise SystemExit(f"a wrong answer: {done.complaint}")
            samples.append((samples[-1][0] + done.requests, resident_bytes(ours.pid)))
    _tell(samples, options)


def _tell(samples: list[tuple[int, int]], options: argparse.Namespace) -> None:
    warm = samples[len(samples) // 4 :]
    slope = statistics.linear_regression([n for n, _ in warm], [size for _, size in warm]).slope
    kib = slope * 1000 / 1024  # bytes a run -> KiB a thousand runs
    shown = samples[:: max(1, len(samples) // 10)]
    table(
        f"memory of the mesh, durability {options.durability}: {kib:+.1f} KiB per 1,000 runs",
        ("runs", "MiB"),
        [(f"{runs:,}", f"{size / 2**20:.1f}") for runs, size in shown],
    )
    write("memory_growth", {"kib_per_1000_runs": kib, "samples": samples})


if __name__ == "__main__":
    main()
