"""What the files of a model folder say of it, without loading it.

Imports nothing of the mesh: the worker process uses it, too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.router.adapters.genai import markers
from servers.router.adapters.genai.markers import Pair

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")
_CONFIG = "genai_config.json"
_BUILD = "python -m onnxruntime_genai.models.builder makes such a folder"


class Unusable(Exception):
    """The folder is none of a model, or lacks something; the message says what to do."""


class Missing(Unusable):
    """Something is not there."""


@dataclass(frozen=True, slots=True)
class Description:
    window: int  # tokens of prompt and answer together
    template: str  # of chats
    tokens: Mapping[str, str]  # special ones, by the names that templates use
    devices: frozenset[str]  # that the folder was built for, besides the CPU
    whole_prompts: bool  # the model must read a prompt in one piece
    batch: int  # conversations that are computed together; 0: they take turns

    @property
    def calls(self) -> Pair | None:
        """How the model writes tool calls; None where it can't be told about tools."""
        return markers.of_template(self.template)


def describe(folder: Path) -> Description:
    """Reads files: not for the event loop. Raises Unusable."""
    if not folder.is_dir():
        raise Missing(f"there is no folder {str(folder)!r}: `endpoint` names it")
    config = _json(folder / _CONFIG)
    if not config:
        raise Missing(f"{str(folder)!r} holds no {_CONFIG}: {_BUILD}")
    try:
        return _described(folder, config)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(
            f"{str(folder)!r}: {_CONFIG} is not of the expected form ({error})"
        ) from None


def _described(folder: Path, config: Mapping[str, Any]) -> Description:
    model, decoder = config["model"], config["model"]["decoder"]
    for name in (decoder.get("filename", "model.onnx"), "tokenizer.json"):
        if not (folder / name).is_file():
            raise Missing(f"{str(folder)!r} holds no {name}: {_BUILD}")
    said = _json(folder / "tokenizer_config.json")
    template = _template(folder, said.get("chat_template"))
    if not template:
        raise Missing(
            f"{str(folder)!r} has no chat template, so it can't hold a conversation: add "
            "chat_template.jinja, or use the instruction-tuned model"
        )
    tokens = {**_json(folder / "special_tokens_map.json"), **said}
    window = int(model["context_length"])
    session = decoder.get("session_options", {})
    return Description(
        min(window, int(config.get("search", {}).get("max_length") or window)),
        template,
        {name: _text(tokens[name]) for name in _SPECIAL if tokens.get(name)},
        frozenset(name.lower() for each in session.get("provider_options", ()) for name in each),
        "sliding_window" in decoder or model["type"].startswith("phi"),
        _batch(config.get("engine", {}).get("dynamic_batching")),
    )


def _batch(said: Any) -> int:
    return 0 if said is None else int(said.get("max_batch_size") or 16)


def _template(folder: Path, said: Any) -> str:
    if isinstance(said, list):  # the package can't load it
        raise Unusable(
            f"{str(folder)!r}: tokenizer_config.json holds several chat templates: leave one there"
        )
    file = folder / "chat_template.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else said or ""


def _json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unusable(f"{str(path)!r} can't be read: {error}") from None
    if not isinstance(found, dict):
        raise Unusable(f"{str(path)!r} holds no JSON object")
    return found


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, Mapping) else str(token)
