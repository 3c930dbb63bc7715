"""Values into tensors, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput

from servers.router.adapters.triton.models import Model, Tensor


def text(model: Model, tensor: Tensor, values: Sequence[str]) -> Any:
    encoded = np.array([each.encode() for each in values], dtype=np.object_)
    return _input(tensor, encoded.reshape(model.shape(tensor, len(values))))


def flag(model: Model, tensor: Tensor, on: bool) -> Any:
    return _input(tensor, np.full(model.shape(tensor, 1), on))


def strings(answer: Any, name: str) -> list[bytes]:
    found = answer.as_numpy(name)
    return [] if found is None else list(found.reshape(-1))


def count(answer: Any, name: str) -> int:
    """The sum of an output of whole numbers; 0 where the model did not send it."""
    found = answer.as_numpy(name)
    return 0 if found is None else int(found.sum())


def _input(tensor: Tensor, values: Any) -> Any:
    made = InferInput(tensor.name, list(values.shape), tensor.kind)
    made.set_data_from_numpy(values)
    return made
