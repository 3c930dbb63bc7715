"""Chats in the manner of Triton's vLLM backend: the names of its tensors, and what they mean."""

import codecs
from dataclasses import dataclass, field
from typing import Any

import orjson

from servers.domain.chat import Finish, FinishReason, Image, Sampling, TextPiece, Usage
from servers.kernel.errors import InvalidInput
from servers.router.adapters.openai.wire import estimated
from servers.router.adapters.triton.models import Model, Tensor
from servers.router.adapters.triton.stops import Stops
from servers.router.adapters.triton.tensors import count, flag, strings, text
from servers.router.ports import Ask

INPUT, OUTPUT = "text_input", "text_output"
_SAMPLING = "sampling_parameters"
# Each is given only where the input "return_..." asks for it.
_BESIDES = ("finish_reason", "num_input_tokens", "num_output_tokens")


def check(ask: Ask) -> None:
    """Raises InvalidInput for what a prompt of plain text has no place for."""
    unable = {
        "tools": bool(ask.tools),
        "pictures": any(isinstance(part, Image) for m in ask.messages for part in m.parts),
        "schema for the answer": bool(
            ask.output_schema or ask.sampling.extra.get("response_format")
        ),
    }
    if asked := [what for what, wanted in unable.items() if wanted]:
        raise InvalidInput(
            f"model {ask.model!r} on Triton takes no {' and no '.join(asked)}",
            reason="NOT_SUPPORTED",
        )


def inputs(model: Model, into: Tensor, prompt: str, ask: Ask, stream: bool) -> list[Any]:
    """The prompt, and whatever of the convention the model takes."""
    flags = {"stream": stream, "exclude_input_in_output": True}
    flags |= {f"return_{name}": True for name in besides(model)}
    known = model.inputs
    found = [text(model, into, [prompt])]
    found += [flag(model, known[name], on) for name, on in flags.items() if name in known]
    if settings := _settings(ask.sampling):
        found += _sampling(model, settings)
    return found


def besides(model: Model) -> list[str]:
    """What the model says of its answer besides the text."""
    return [name for name in _BESIDES if name in model.outputs and f"return_{name}" in model.inputs]


@dataclass(slots=True)
class Said:
    """An answer as its parts arrive."""

    ask: Ask
    output: str
    besides: list[str]
    stops: Stops = field(init=False)
    length: int = 0  # in characters
    counted: tuple[int, int] = (0, 0)
    reason: str = ""
    _decode: codecs.IncrementalDecoder = field(init=False)

    def __post_init__(self) -> None:
        self.stops = Stops(self.ask.sampling.stop)
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self, answer: Any) -> list[TextPiece]:
        """What is to be shown of it. Of several answers to one prompt the first counts."""
        said = b"".join(strings(answer, self.output)[:1])
        if "finish_reason" in self.besides:
            self.reason = b"".join(strings(answer, "finish_reason")[:1]).decode()
        prompt, spoken = self.counted
        self.counted = (
            count(answer, "num_input_tokens") or prompt,
            spoken + count(answer, "num_output_tokens"),
        )
        return self._shown(self.stops.take(self._decode.decode(said)))

    def rest(self) -> list[TextPiece]:
        """Once nothing more is to come."""
        shown = self.stops.take(self._decode.decode(b"", final=True))
        return self._shown(shown + self.stops.rest())

    @property
    def whole(self) -> bool:
        """Whether the end was there; a model that gives no reasons is believed."""
        silent = "finish_reason" not in self.besides
        return self.stops.met or silent or self.reason not in ("", "None")

    def finish(self) -> Finish:
        return Finish(self._kind(), usage=self._usage(), model=self.ask.model)

    def _shown(self, text: str) -> list[TextPiece]:
        self.length += len(text)
        return [TextPiece(text)] if text else []

    def _kind(self) -> FinishReason:
        if self.stops.met:
            return FinishReason.STOP
        most = self.ask.sampling.max_tokens
        cut = self.reason == "length" or (not self.reason and most and self.counted[1] >= most)
        return FinishReason.LENGTH if cut else FinishReason.STOP

    def _usage(self) -> Usage:
        guess = estimated(self.ask, self.length)
        prompt, spoken = self.counted
        known = {"num_input_tokens", "num_output_tokens"} <= set(self.besides)
        return Usage(
            prompt or guess.prompt_tokens,
            spoken if "num_output_tokens" in self.besides else guess.completion_tokens,
            estimated=not known,
        )


def _settings(wanted: Sampling) -> dict[str, Any]:
    named = {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_tokens": wanted.max_tokens,
        "stop": list(wanted.stop) or None,
        "seed": wanted.seed,
    }
    return dict(wanted.extra) | {name: value for name, value in named.items() if value is not None}


def _sampling(model: Model, settings: dict[str, Any]) -> list[Any]:
    if _SAMPLING in model.inputs:
        return [text(model, model.inputs[_SAMPLING], [orjson.dumps(settings).decode()])]
    if beyond := sorted(settings.keys() - {"stop"}):  # stop strings are seen to here
        raise InvalidInput(
            f"model {model.name!r} on Triton has no input {_SAMPLING!r}, so it can't be told "
            + ", ".join(beyond),
            reason="PROVIDER_REFUSED",
        )
    return []
