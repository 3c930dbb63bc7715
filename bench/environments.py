"""Packages that are compared with, each in an environment of its own: their pins aren't ours."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.processes import ROOT


def made(name: str, base: str, requirements: Sequence[str]) -> Path:
    """The interpreter of build/bench/NAME, which is made where it is missing.

    Raises CalledProcessError where the packages can't be had.
    """
    folder = ROOT / "build" / "bench" / name
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.exists() and ready.read_text().split() == [*requirements]:
        return python
    uv = shutil.which("uv") or ROOT / ".tools" / "bin" / "uv"
    for arguments in (
        ("venv", "--clear", "--python", base, folder),
        ("pip", "install", "--python", python, *requirements),
    ):
        subprocess.run([uv, *arguments, "--quiet"], check=True)
    ready.write_text("\n".join(requirements))
    return python
