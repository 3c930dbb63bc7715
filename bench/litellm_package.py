"""The package `litellm`, whose Router ours is compared with, in an environment of its own."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.environments import made

VERSION = "1.110.2"
SKIPPED = f"litellm {VERSION} is skipped: it could not be installed"
# What drives it and what both sides stand on is the same on both sides.
_SHARED = ("aiohttp", "httpx", "orjson", "psutil", "uvloop")


def installed() -> Path | None:
    """The interpreter that has it, of our own version of Python; None where it can't be had."""
    shared = [f"{name}=={version(name)}" for name in _SHARED]
    base = str(Path(sys.executable).resolve())
    try:
        return made(f"litellm-{VERSION}", base, [f"litellm=={VERSION}", *shared])
    except (OSError, subprocess.CalledProcessError):
        return None
