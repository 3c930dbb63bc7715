"""Opens a model on ONNX Runtime, on the CPU or on CUDA."""

import os
from pathlib import Path
from typing import Any

from servers.kernel.errors import NotReady

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SILENT = 4  # what goes wrong is raised: it need not be printed, too


def open_session(path: Path, threads: int, device: str) -> Any:
    """Takes a while: not for the event loop. Raises NotReady that says what is wrong."""
    ort = _runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _processors()
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that wait must not take the CPU from the rest of the mesh.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(ort, device)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as broken:  # the package's own classes, all directly below Exception
        raise NotReady(
            f"{str(path)!r} is no model that ONNX Runtime {ort.__version__} can load: "
            f"{first_line(broken)}",
            reason="MODEL_BROKEN",
        ) from broken
    if device == "cuda" and _CUDA not in session.get_providers():
        raise NotReady(
            "device 'cuda': ONNX Runtime found no GPU, or not the libraries of CUDA and cuDNN "
            "that it needs; device 'auto' takes the CPU instead",
            reason="MODEL_BROKEN",
        )
    return session


def run_options() -> Any:
    """Of one run. `terminate` may be set from any thread."""
    options = _runtime().RunOptions()
    options.log_severity_level = _SILENT
    return options


def _runtime() -> Any:
    """ONNX Runtime writes a device id and what it did below ~/.cache, to be sent to its makers,
    unless it is told not to before it is loaded."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _providers(ort: Any, device: str) -> list[str]:
    if device == "cpu" or _CUDA not in ort.get_available_providers():
        if device == "cuda":
            raise NotReady(
                "device 'cuda' needs the extra 'onnx-gpu' in the place of 'onnx': they bring "
                "different builds of ONNX Runtime",
                reason="EXTRA_MISSING",
                extra="onnx-gpu",
            )
        return [_CPU]
    ort.preload_dlls()  # of CUDA, where they were installed as Python packages
    return [_CUDA, _CPU]


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
