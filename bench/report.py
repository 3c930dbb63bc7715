"""How measurements are told: a table for people, JSON for programs."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench.processes import ROOT

OUT = ROOT / "bench" / "out"
# Without a terminal a table must not be cut.
console = Console(width=None if os.isatty(1) else 130)


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some rounds and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def told(self, digits: int = 0) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(f"\n{title}", style="bold", markup=False)
    shown = Table()
    for position, column in enumerate(columns):
        shown.add_column(column, justify="left" if position < 1 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def write(name: str, measured: Any) -> Path:
    """Keep the figures, with where they come from, in bench/out/NAME.json."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    where = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_DATACLASS
    path.write_bytes(orjson.dumps({"where": where, "measured": measured}, option=option))
    console.print(f"written to {path.relative_to(ROOT)}\n")
    return path


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
