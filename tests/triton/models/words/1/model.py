"""Says its prompt back, word by word, as Triton's vLLM backend would say an answer.

A word is a token. `sampling_parameters` may hold: max_tokens; `delay`, seconds before each word;
`fail_after`, words after which it fails; `hang_after`, words after which it says no more;
`end_after`, words after which it ends without saying why; `cut`, whether each word comes in
pieces of one byte; `id`, what to call the request. What becomes of it is written to the file
WORDS_LOG: that is how a test sees that a cancel got here.
"""

import json
import os
import time
from threading import Thread

import numpy as np
import triton_python_backend_utils as triton

FINAL = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
POLL = 0.01  # seconds between looks whether the request is still wanted


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            Thread(target=self.answer, args=(request, request.get_response_sender())).start()
        return None

    def answer(self, request, sender):
        asked = Asked(request)
        name = asked.parameters.get("id", "request")
        note(f"{name} asked")
        spoken, said = 0, b""
        for number, word in enumerate(asked.words, start=1):
            if not wait(sender, asked.pause(number)):
                note(f"{name} cancelled after {spoken}")
                failed = triton.TritonError("Request was cancelled", triton.TritonError.CANCELLED)
                sender.send(triton.InferenceResponse(error=failed), flags=FINAL)
                return
            if spoken == asked.parameters.get("fail_after"):
                failed = triton.TritonError("out of memory", triton.TritonError.INTERNAL)
                sender.send(triton.InferenceResponse(error=failed), flags=FINAL)
                return
            if spoken == asked.parameters.get("end_after"):
                sender.send(flags=FINAL)
                return
            spoken, last = number, number == len(asked.words)
            if asked.stream:
                for response, flags in asked.pieces(word, last):
                    sender.send(response, flags=flags)
            said += word
        if not asked.stream:
            sender.send(asked.response(said, True, spoken), flags=FINAL)
        note(f"{name} finished after {spoken}")


class Asked:
    """A request, taken apart."""

    def __init__(self, request):
        self.stream = value(request, "stream", False)
        excluded = value(request, "exclude_input_in_output", bool(self.stream))
        prompt = value(request, "text_input", b"")
        self.parameters = json.loads(value(request, "sampling_parameters", b"{}"))
        words = [word for word in prompt.split(b" ") if word]
        most = self.parameters.get("max_tokens", len(words))
        self.reason = "length" if most < len(words) else "stop"
        self.prompt_tokens = len(words)
        self.words = [
            word if number == 0 else b" " + word for number, word in enumerate(words[:most])
        ]
        if not excluded:
            self.words = [prompt, *self.words]
        self.returns = {
            name
            for name in ("finish_reason", "num_input_tokens", "num_output_tokens")
            if value(request, f"return_{name}", False)
        }

    def pause(self, number):
        after = self.parameters.get("hang_after")
        hangs = after is not None and number > after
        return 600 if hangs else self.parameters.get("delay", 0)

    def pieces(self, word, last):
        """The responses for a word; with its last piece it is a token."""
        parts = [bytes([byte]) for byte in word] if self.parameters.get("cut") else [word]
        for number, part in enumerate(parts, start=1):
            whole = number == len(parts)
            yield self.response(part, last and whole, int(whole)), FINAL if last and whole else 0

    def response(self, text, last, tokens):
        found = {
            "finish_reason": np.array([self.reason if last else "None"], dtype=object),
            "num_input_tokens": np.array(self.prompt_tokens, dtype=np.uint32),
            "num_output_tokens": np.array([tokens], dtype=np.uint32),
        }
        outputs = [triton.Tensor("text_output", np.array([text], dtype=object))]
        outputs += [triton.Tensor(name, found[name]) for name in found if name in self.returns]
        return triton.InferenceResponse(outputs)


def value(request, name, default):
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def wait(sender, seconds):
    """Whether the request is still wanted when they are over."""
    until = time.monotonic() + seconds
    while not sender.is_cancelled():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(POLL, left))
    return False


def note(line):
    with open(os.environ["WORDS_LOG"], "a") as log:
        log.write(line + "\n")
