"""What the worker has the package read: configuration, tokenizer, and weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime_genai as og
from jinja2 import TemplateError

from servers.router.adapters.genai import markers
from servers.router.adapters.genai.batches import Batching
from servers.router.adapters.genai.description import Description, Unusable, describe
from servers.router.adapters.genai.template import ChatTemplate, Refusal
from servers.router.adapters.genai.turns import TurnTaking
from servers.router.adapters.genai.work import Engine, Voice, Work

_CUDA = (
    "needs a GPU of NVIDIA and the package onnxruntime-genai-cuda in the place of onnxruntime-genai"
)


class Refused(Exception):
    """The request is wrong."""


class Cannot(Exception):
    """The package has no way to do it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: Any  # a numpy array of int32
    thinking: bool  # the model goes on in the middle of a thought


class Folder:
    """A model's files. The tokenizer is read at once, the weights when they are first needed.

    Raises Unusable where nothing can be done with them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._about = describe(Path(settings["folder"]))
        try:
            self._template = ChatTemplate(self._about.template, self._about.tokens)
            self._config = og.Config(settings["folder"])
            _choose(self._config, settings, self._about)
            self._tokenizer = og.Tokenizer(self._config)
        except TemplateError as error:
            raise Unusable(f"its chat template is none: {error}") from None
        except RuntimeError as error:  # all that the package raises
            raise Unusable(str(error)) from None
        self._eos = frozenset(int(each) for each in self._tokenizer.eos_token_ids)
        self._words = _marked(self._tokenizer)
        self.engine: Engine | None = None  # once the weights are loaded
        self._guided: bool | None = None  # not known yet

    def load(self) -> bool:
        """Returns whether it was loaded now."""
        if self.engine is not None:
            return False
        about = self._about
        try:
            model = og.Model(self._config)
            self.engine = (
                Batching(model)
                if about.batch
                else TurnTaking(model, about.window, about.whole_prompts)
            )
        except RuntimeError as error:
            raise Unusable(str(error)) from None
        return True

    def prompt(self, job: Mapping[str, Any]) -> Prompt:
        """The conversation as the model reads it. Raises Refused where it can't be written."""
        try:
            text = self._template.render(job["messages"], job["tools"], job["template"])
        except Refusal as refusal:
            raise Refused(f"its chat template refuses the conversation: {refusal}") from None
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # it would end the prompt in C
        thinking = text.rstrip().endswith(markers.THOUGHT.begin)
        return Prompt(self._tokenizer.encode(text), thinking)

    def begin(self, number: int, job: Mapping[str, Any], prompt: Prompt) -> None:
        """Raises Refused, and Cannot for a schema that the package can't hold answers to."""
        engine, read, window = self.engine, len(prompt.ids), self._about.window
        assert engine is not None
        if not 0 < read < window:
            raise Refused(f"the prompt has {read} tokens, the model's window {window}")
        if job["schema"] and not self._guides(engine):
            raise Cannot("this build of onnxruntime-genai can't hold answers to a JSON Schema")
        voice = Voice(self._tokenizer.create_stream(), self._eos, self._words)
        try:
            engine.begin(
                number, Work(prompt.ids, job["limit"], job["search"], job["schema"]), voice
            )
        except RuntimeError as error:
            raise Refused(str(error)) from None

    def _guides(self, engine: Engine) -> bool:
        if self._guided is None:
            self._guided = engine.guides()
        return self._guided


def _choose(config: Any, settings: Mapping[str, Any], about: Description) -> None:
    """Device and threads, where the settings say more than the folder."""
    device, threads = settings["device"], settings["threads"]
    wants_cuda = device == "cuda" or (device == "auto" and "cuda" in about.devices)
    if wants_cuda and not og.is_cuda_available():
        who = "`device: cuda`" if device == "cuda" else "it is built for CUDA, which"
        raise Unusable(f"{who} {_CUDA}")
    if device != "auto":
        config.clear_providers()
        config.append_provider(device)
    if threads:
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))


def _marked(tokenizer: Any) -> dict[int, str]:
    """Markers that are tokens of their own: decoding leaves them out where they are special."""
    ids = {tokenizer.to_token_id(word): word for word in markers.ALL}
    return {id: word for id, word in ids.items() if id >= 0}
