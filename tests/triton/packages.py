"""What Triton runs on: an environment of its own in build/triton, made on first use.

It can't be the project's: the wheel with the server wants numpy 1 and protobuf 6.
"""

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
from ctypes.util import find_library
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "triton"
_PINNED = Path(__file__).with_name("requirements.txt")
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def missing() -> str:
    """Why there can be no Triton on this machine; empty where there can."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"Triton's wheel is for x86-64 Linux, not {sys.platform} on {platform.machine()}"
    if _VERSION not in ("3.11", "3.12"):
        return f"Triton's Python backend is tried with Python 3.11 and 3.12, not {_VERSION}"
    shared = library_folder() / str(sysconfig.get_config_var("INSTSONAME"))
    if not shared.exists() and find_library(f"python{_VERSION}") is None:
        return f"Triton's Python backend needs {shared.name}, which this Python does not have"
    return ""


def site_packages() -> Path:
    return FOLDER / "lib" / f"python{_VERSION}" / "site-packages"


def library_folder() -> Path:
    """Where this interpreter's own libpython is. Another one of the same version won't do."""
    return Path(str(sysconfig.get_config_var("LIBDIR")))


def installed() -> None:
    """Makes the environment, unless it is there. Of several processes that want it one does."""
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "triton.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark, wanted = FOLDER / ".ready", _fingerprint()
        if not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(FOLDER, ignore_errors=True)
            _install(FOLDER)
            mark.write_text(wanted)


def _install(folder: Path) -> None:
    python = sys._base_executable  # the interpreter behind the project's environment
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    subprocess.run([*_installer(python), *options, "-r", str(_PINNED)], check=True, cwd=ROOT)
    server = site_packages() / "pytriton" / "tritonserver"
    # The wheel has one for each version of Python, beside where the server looks for it.
    stub = server / "python_backend_stubs" / _VERSION / "triton_python_backend_stub"
    shutil.copy(stub, server / "backends" / "python")


def _installer(python: str) -> list[str]:
    """The Makefile's uv, or else pip."""
    inside = ["--python", str(FOLDER / "bin" / "python")]
    ours = ROOT / ".tools" / "bin" / "uv"
    if uv := shutil.which("uv") or (str(ours) if ours.exists() else ""):
        return [uv, "pip", "install", *inside]
    return [python, "-m", "pip", *inside, "--disable-pip-version-check", "install"]


def _fingerprint() -> str:
    """Of all that decides what the environment is like."""
    parts = (_PINNED.read_bytes(), Path(__file__).read_bytes(), sys.version.encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()
