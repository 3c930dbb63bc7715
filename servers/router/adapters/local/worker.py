"""The embedded model's own process: llama.cpp behind HTTP on a free loopback port.

    python -m servers.router.adapters.local.worker SETTINGS_JSON

The first line on stdin is the key that requests must bring. Prints one JSON line
{"endpoint": ...} once it can answer, and ends when stdin ends: also when the parent was
killed. Imports nothing of the mesh, so that it starts quickly and fails alone.
"""

import json
import os
import sys
from typing import Any


def serve(settings: dict[str, Any], api_key: str) -> Any:
    """Load the model and answer requests on threads of its own."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["model"]}
    params.n_ctx = settings["context_window"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = settings["threads"]
        cpu.poll = 0  # waiting threads must not take the CPU from the rest of the mesh
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [api_key]
    params.use_jinja = True
    params.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    params.fit_params = False  # nothing to fit: no GPU, and sizes are known
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def main() -> None:
    settings, api_key = json.loads(sys.argv[1]), sys.stdin.readline().strip()
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints is no answer to the parent
    server = serve(settings, api_key)
    print(json.dumps({"endpoint": server.listening_address}), file=parent, flush=True)
    sys.stdin.read()
    os._exit(0)  # llama.cpp's own teardown waits for requests that nobody reads any more


if __name__ == "__main__":
    main()
