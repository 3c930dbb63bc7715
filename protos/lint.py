"""Judges the contract with buf: `python protos/lint.py`.

First style and documentation (the rules are in buf.yaml), then whether anything broke since
the last release, which is the descriptor set that its tag committed. Before the first tag
there are no callers to break, and it says so.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import ROOT, fetch_googleapis

BUF = str(Path(sys.executable).with_name("buf"))
RELEASE_TAGS = "v[0-9]*"


def main() -> int:
    fetch_googleapis()
    return lint() or breaking()


def lint() -> int:
    return subprocess.run([BUF, "lint"], cwd=ROOT).returncode


def breaking() -> int:
    tag = last_release()
    if tag is None:
        print("no release is tagged yet: the contract may still change freely")
        return 0
    with tempfile.NamedTemporaryFile(suffix=".binpb") as released:
        released.write(git("show", f"{tag}:gen/astromesh.binpb"))
        released.flush()
        # The folder is named because the other module, Google's, was never released by us.
        command = [BUF, "breaking", "protos", "--against", released.name]
        return subprocess.run(command, cwd=ROOT).returncode


def last_release() -> str | None:
    described = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", RELEASE_TAGS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or None


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
