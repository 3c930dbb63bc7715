"""A model in a folder of this machine: its files, and what they say of how it is meant to be used.

The layout is that of Hugging Face's exports: model.onnx (or onnx/model.onnx) beside
tokenizer.json, config.json, and the settings of the library sentence-transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from servers.kernel.errors import NotReady

_UNSAID = 512  # tokens; what most encoders read at once
_ENDLESS = 1_000_000  # tokenizers say numbers beyond it for "no limit"
_SIMPLE = {"Transformer", "Pooling", "Normalize"}
_TOLD_BY_FLAGS = "pooling_mode_"  # {"pooling_mode_cls_token": true, ...}, until version 5
_POOLINGS = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`window` is how many tokens the model is meant to read at once, `positions` how many it
    can at all, 0 where that is not known. Empty where nothing is said."""

    name: str
    model: Path
    tokenizer: Path
    window: int = _UNSAID
    positions: int = 0
    pad: int | None = None
    pooling: str = ""
    layers: tuple[str, ...] = ()  # behind the pooling, besides normalising
    prompts: Mapping[str, str] = field(default_factory=dict)
    activation: str = ""


def read_folder(folder: Path) -> ModelFolder:
    """Reads files: not for the event loop. Raises NotReady that says what is missing."""
    if not folder.is_dir():
        raise NotReady(
            f"there is no folder {str(folder)!r} on the router's machine: `endpoint` names it",
            reason="MODEL_MISSING",
        )
    model = _first(folder, ("model.onnx", "onnx/model.onnx"), "export the model to ONNX")
    tokenizer = _first(
        folder, ("tokenizer.json", "onnx/tokenizer.json"), "save the fast tokenizer beside it"
    )
    config = _json(folder / "config.json")
    positions = _number(config.get("max_position_embeddings"))
    return ModelFolder(
        folder.name,
        model,
        tokenizer,
        _window(folder, positions),
        positions,
        _number(config["pad_token_id"]) if "pad_token_id" in config else None,
        _pooling(_json(folder / "1_Pooling" / "config.json")),
        _layers(folder / "modules.json"),
        _prompts(folder),
        _activation(config, _json(folder / "config_sentence_transformers.json")),
    )


def _first(folder: Path, names: tuple[str, ...], advice: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise NotReady(
        f"{str(folder)!r} holds no {' nor '.join(names)}: {advice}", reason="MODEL_MISSING"
    )


def _window(folder: Path, positions: int) -> int:
    said = (
        _number(_json(folder / "sentence_bert_config.json").get("max_seq_length")),
        _number(_json(folder / "tokenizer_config.json").get("model_max_length")),
        positions,
    )
    window = next((each for each in said if 0 < each < _ENDLESS), _UNSAID)
    return min(window, positions) if positions else window


def _pooling(said: Mapping[str, Any]) -> str:
    """In our words where we have one: "cls", "mean", "last"; several are joined by "+"."""
    mode = said.get("pooling_mode", [])
    modes = (
        [mode]
        if isinstance(mode, str)
        else mode
        or [
            key.removeprefix(_TOLD_BY_FLAGS)
            for key, value in said.items()
            if key.startswith(_TOLD_BY_FLAGS) and value is True
        ]
    )
    return "+".join(_POOLINGS.get(str(each), str(each)) for each in modes)


def _layers(modules: Path) -> tuple[str, ...]:
    found = _json(modules)
    types = [str(each.get("type", "")) for each in found if isinstance(each, dict)]
    names = [each.rpartition(".")[2] for each in types]
    return tuple(name for name in names if name not in _SIMPLE)


def _prompts(folder: Path) -> Mapping[str, str]:
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts")
    if not isinstance(prompts, dict):
        return {}
    said = {key: value for key, value in prompts.items() if isinstance(value, str) and value}
    if "passage" in said:
        said.setdefault("document", said["passage"])
    return said


def _activation(*configs: Mapping[str, Any]) -> str:
    """What cross-encoders were trained with, in the words of sentence-transformers."""
    for config in configs:
        newer = config.get("sentence_transformers")
        newer = newer.get("activation_fn") if isinstance(newer, dict) else None
        older = config.get("sbert_ce_default_activation_function")
        name = str(newer or older or config.get("activation_fn") or "").rpartition(".")[2]
        if name in ("Identity", "Sigmoid"):
            return {"Identity": "none", "Sigmoid": "sigmoid"}[name]
    return ""


def _number(said: object) -> int:
    return int(said) if isinstance(said, int | float) and not isinstance(said, bool) else 0


def _json(path: Path) -> Any:
    """What a file of settings says; nothing, where there is none."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as broken:
        raise NotReady(f"{str(path)!r} can't be read: {broken}", reason="MODEL_BROKEN") from None
