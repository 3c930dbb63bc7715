"""Writes everything that follows from the contract: `python protos/generate.py`.

Under gen/ that is the Python code for grpcio, the descriptor set that Envoy reads, the
OpenAPI document, and a second client for grpclib. All of it is committed; with `--check`
it is written into a temporary folder instead, and every file that differs is named.
Nothing here needs a network.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import openapi

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
GOOGLEAPIS = ROOT / "build" / "googleapis"
# No proto imports these, but a program can only show the details of an error, as Envoy does
# in a REST answer, if it knows their types.
ERROR_DETAILS = "google/rpc/error_details.proto"
# The other client has to know them, too: RPCs answer with operations.
OPERATIONS = ["google/longrunning/operations.proto", "google/rpc/status.proto"]
# Files that the wheel has under another name than its own generated code knows them by.
RENAMED = {"google/longrunning/operations_proto.proto": OPERATIONS[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether gen/ is fresh")
    check = parser.parse_args().check
    fetch_googleapis()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        write(fresh)
        stale = differing(fresh, GEN)
        if not check:
            bring_over(stale, fresh)
    for name in stale:
        print(f"gen/{name} is stale: run `make gen`" if check else f"wrote gen/{name}")
    return 1 if check and stale else 0


def fetch_googleapis() -> None:
    """Copies Google's protos out of their wheel, so that protoc and buf read the same ones."""
    for file in metadata.files("googleapis-common-protos") or ():
        if file.suffix == ".proto":
            target = GOOGLEAPIS / RENAMED.get(file.as_posix(), file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def write(gen: Path) -> None:
    """Writes everything into the folder `gen`, which is empty."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    services = [source for source in sources if source.endswith("_service.proto")]
    protoc(sources, f"--python_out={gen}", f"--mypy_out=quiet:{gen}")
    protoc(services, f"--grpc_python_out={gen}", f"--mypy_grpc_out=quiet,only_async:{gen}")
    mark_packages(gen / "astromesh")

    descriptors = gen / "astromesh.binpb"
    with_everything = ["--include_imports", "--include_source_info"]
    protoc([*sources, ERROR_DETAILS], f"--descriptor_set_out={descriptors}", *with_everything)
    document = gen / "openapi" / "astromesh.openapi.yaml"
    document.parent.mkdir()
    document.write_text(openapi.render(descriptors.read_bytes()), encoding="utf-8")

    client = gen / "astromesh_client"
    client.mkdir()
    foreign = [ERROR_DETAILS, *OPERATIONS]
    protoc([*sources, *foreign], f"--python_betterproto2_out=client_generation=async:{client}")


def protoc(sources: list[str], *options: str) -> None:
    # The plugins, and the formatter that one of them calls, lie beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    includes = [f"-I{PROTOS}", f"-I{GOOGLEAPIS}"]
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *includes, *options, *sources],
        env={**os.environ, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def mark_packages(package: Path) -> None:
    """Makes the folders plain typed packages, which every tool finds alike."""
    (package / "py.typed").touch()
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()


def differing(fresh: Path, old: Path) -> list[Path]:
    """The files that are new, gone or not the same, by their names below either folder."""
    names = {
        file.relative_to(side)
        for side in (fresh, old)
        for file in side.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    same, _, _ = filecmp.cmpfiles(fresh, old, map(str, names), shallow=False)
    return sorted(names - set(map(Path, same)))


def bring_over(stale: list[Path], fresh: Path) -> None:
    """Only what changed is touched, so that programs that run now keep what they use."""
    for name in stale:
        target = GEN / name
        if (fresh / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, target)
        else:
            target.unlink()


if __name__ == "__main__":
    raise SystemExit(main())
