"""Conversations that take turns, token by token: what works with every folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime_genai as og

from servers.router.adapters.genai.work import Event, Voice, Work

_CPU_CHUNK, _GPU_CHUNK = 64, 2048  # tokens of a prompt that are read between two looks around


class TurnTaking:
    def __init__(self, model: Any, window: int, whole_prompts: bool) -> None:
        self._model, self._window = model, window
        # So that nobody waits for a long prompt of somebody else's, who may have left.
        chunk = _CPU_CHUNK if model.device_type == "CPU" else _GPU_CHUNK
        self._chunk = window if whole_prompts else chunk
        self._turns: dict[int, Turn] = {}

    @property
    def busy(self) -> bool:
        return bool(self._turns)

    def begin(self, number: int, work: Work, voice: Voice) -> None:
        read = len(work.prompt)
        search = {**work.search, "max_length": min(self._window, read + work.limit)}
        if least := search.pop("min_tokens", 0):
            search["min_length"] = min(self._window, read + least)
        # With a schema, the package takes a second chunk for the beginning of the answer.
        chunk = self._window if work.schema else self._chunk
        generator = self._generator(search, work.schema)
        self._turns[number] = Turn(generator, voice, work.prompt, chunk)

    def guides(self) -> bool:
        try:
            self._generator({"max_length": 2}, '{"type": "object"}')
        except RuntimeError:
            return False
        return True

    def cancel(self, number: int) -> None:
        self._turns.pop(number, None)  # which frees what it holds

    def advance(self) -> Iterator[tuple[int, Event]]:
        for number, turn in list(self._turns.items()):
            try:
                event = turn.step()
            except RuntimeError as error:
                event = {"failed": str(error)}
            if event is None:
                continue
            if "text" not in event:
                del self._turns[number]
            yield number, event

    def _generator(self, search: Mapping[str, Any], schema: str) -> Any:
        params = og.GeneratorParams(self._model)
        params.set_search_options(**search)
        if schema:
            params.set_guidance("json_schema", schema)
        return og.Generator(self._model, params)


@dataclass(slots=True)
class Turn:
    generator: Any
    voice: Voice
    unread: Any
    chunk: int

    def step(self) -> Event | None:
        """Reads on in the prompt, or says one token."""
        if len(self.unread):
            self.generator.append_tokens(self.unread[: self.chunk])
            self.unread = self.unread[self.chunk :]
            return None
        if self.generator.is_done():
            return self.voice.end("length")
        self.generator.generate_next_token()
        return self.voice.say(int(self.generator.get_next_tokens()[0]))
