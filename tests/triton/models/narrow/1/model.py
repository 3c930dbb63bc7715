"""Takes its time for a vector of one number."""

import time

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.3)
        vector = triton.Tensor("vector", np.ones((1, 1), dtype=np.float32))
        return [triton.InferenceResponse([vector]) for _ in requests]
