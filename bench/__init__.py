"""Measurements of the mesh, next to what it is compared with: `python -m bench`."""

import os

# Else grpc warns whenever a process that uses it starts another one.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
