"""From the endpoint of a provider to a loaded model."""

from dataclasses import dataclass
from pathlib import Path

from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.extras import require
from servers.router.adapters.encoders.folder import ModelFolder, read_folder
from servers.router.adapters.encoders.onnx_model import OnnxModel
from servers.router.adapters.encoders.packaged import ENDPOINT, PACKAGES, packaged
from servers.router.adapters.encoders.session import open_session
from servers.router.adapters.encoders.tokenizing import Tokenizer

_EXTRA = "onnx"


@dataclass(frozen=True, slots=True)
class Loading:
    """What to load and how. Who wants the same shares it."""

    endpoint: str
    pairs: bool = False
    max_tokens: int = 0  # 0: as many as the model is meant to read at once
    threads: int = 0  # 0: one for each processor
    device: str = "auto"


def load(loading: Loading) -> OnnxModel:
    """Takes a while: not for the event loop. Raises NotReady that says what is wrong."""
    require(f"the model in {loading.endpoint!r}", _EXTRA, "onnxruntime", "tokenizers")
    folder = _folder(loading.endpoint)
    window = loading.max_tokens or folder.window
    if folder.positions and window > folder.positions:
        raise NotReady(
            f"max_tokens: {window} is more than the {folder.positions} that {folder.name!r} can "
            "read at once",
            reason="MODEL_CANNOT",
        )
    tokenizer = Tokenizer(folder.tokenizer, window, loading.pairs)
    session = open_session(folder.model, loading.threads, loading.device)
    return OnnxModel(folder, session, tokenizer)


def _folder(endpoint: str) -> ModelFolder:
    if endpoint != ENDPOINT:
        return read_folder(Path(endpoint).expanduser())
    require("the packaged embedding model", _EXTRA, *PACKAGES)
    return packaged()
