"""Scores a document by the part of the query that it has, in pieces of three characters."""

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [
            triton.InferenceResponse([triton.Tensor("score", self.scores(r))]) for r in requests
        ]

    def scores(self, request):
        query, document = (
            triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)
            for name in ("query", "document")
        )
        pairs = zip(query, document, strict=True)
        return np.array([[overlap(q.decode(), d.decode())] for q, d in pairs], dtype=np.float32)


def overlap(query, document):
    wanted = pieces(query)
    return len(wanted & pieces(document)) / len(wanted)


def pieces(text):
    text = f" {text.lower()} "
    return {text[at : at + 3] for at in range(len(text) - 2)}
