"""Two numbers a text: how many letters and how many blanks it has. A token is a word.

`twice` has two such vectors for each text, `short` has none for the last one.
"""

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [self.tally(request) for request in requests]

    def tally(self, request):
        raw = triton.get_input_tensor_by_name(request, "texts").as_numpy()
        texts = [text.decode() for text in raw]
        counted = [[sum(c.isalpha() for c in text), text.count(" ")] for text in texts]
        found = {
            "letters": np.array(counted, dtype=np.float32),
            "precise": np.array(counted, dtype=np.float64),
            "twice": np.array([[row, row] for row in counted], dtype=np.float32),
            "short": np.array(counted, dtype=np.float32)[:-1],
            "num_input_tokens": np.array([len(text.split()) for text in texts], dtype=np.int32),
        }
        wanted = request.requested_output_names()
        return triton.InferenceResponse(
            [triton.Tensor(name, found[name]) for name in found if name in wanted]
        )
