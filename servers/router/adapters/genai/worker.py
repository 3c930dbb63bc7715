"""The process of one model folder: ONNX Runtime GenAI computes with Python's lock held, so a
thread of the mesh would hold up everything else.

    python -m servers.router.adapters.genai.worker SETTINGS_JSON

Reads jobs from stdin and writes events to stdout, one JSON object a line each; looks for new
jobs between any two tokens. Ends when stdin ends: also when the parent was killed. Imports
nothing of the mesh but what stands beside it, so that it starts quickly and fails alone.

    {"id": 1, "do": "chat", "messages": [...], ...}
        {"id": 1, "prompt": 9, "thinking": false}
        {"id": 1, "text": " two", "tokens": 3} ...
        {"id": 1, "end": "stop", "tokens": 7, "cached": 0}
    {"id": 2, "do": "count", "messages": [...]}
        {"id": 2, "prompt": 9, "thinking": false}
    {"id": 1, "do": "cancel"}
        (nothing more of 1)

Instead of an end: {"id": 1, "refused": ...} where the request is wrong, {"id": 1, "cannot": ...}
where this build of the package can't do it, {"id": 1, "failed": ...} where the computation
failed. {"ready": true} once the model is loaded, {"broken": ...} where nothing can be done with
the folder.
"""

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any

from servers.router.adapters.genai.description import Unusable
from servers.router.adapters.genai.model import Cannot, Folder, Refused

_LONGEST = 1000  # characters of a message


class Inbox:
    """Jobs as they arrive on a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def take(self, wait: bool) -> list[dict[str, Any]] | None:
        """What is there, after waiting for something where told to. None: nothing more comes."""
        readable, _, _ = select.select([self._descriptor], [], [], None if wait else 0.0)
        if not readable:
            return []
        chunk = os.read(self._descriptor, 1 << 20)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]


class Desk:
    def __init__(self, folder: Folder, tell: Callable[[dict[str, Any]], None]) -> None:
        self._folder = folder
        self._tell = tell

    def serve(self, inbox: Inbox) -> None:
        while (jobs := inbox.take(wait=not self._busy())) is not None:
            for job in jobs:
                self._take(job)
            if engine := self._folder.engine:
                for number, event in engine.advance():
                    self._tell({"id": number, **_short(event)})

    def _busy(self) -> bool:
        return self._folder.engine is not None and self._folder.engine.busy

    def _take(self, job: dict[str, Any]) -> None:
        number = job["id"]
        if job["do"] == "cancel":
            if engine := self._folder.engine:
                engine.cancel(number)
            return
        try:
            prompt = self._folder.prompt(job)
            if job["do"] == "chat":
                if self._folder.load():
                    self._tell({"ready": True})
                self._folder.begin(number, job, prompt)
            self._tell({"id": number, "prompt": len(prompt.ids), "thinking": prompt.thinking})
        except Refused as refused:
            self._tell({"id": number, **_short({"refused": str(refused)})})
        except Cannot as cannot:
            self._tell({"id": number, "cannot": str(cannot)})


def _short(event: dict[str, Any]) -> dict[str, Any]:
    """What the package says of its failures may be long."""
    return {key: said[:_LONGEST] if isinstance(said, str) else said for key, said in event.items()}


def main() -> None:
    settings = json.loads(sys.argv[1])
    parent = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the package prints is no answer to the parent

    def tell(event: dict[str, Any]) -> None:
        parent.write(json.dumps(event) + "\n")
        parent.flush()

    try:
        Desk(Folder(settings), tell).serve(Inbox(0))
    except Unusable as broken:
        tell(_short({"broken": str(broken)}))
    except BrokenPipeError:
        pass  # the parent is gone
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # the package's own teardown may wait for threads of a GPU


if __name__ == "__main__":
    main()
