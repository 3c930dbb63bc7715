"""all-MiniLM-L6-v2 (int8) by ONNX Runtime: texts in, mean-pooled vectors out, not normalised."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton
from tokenizers import Tokenizer


class TritonPythonModel:
    def initialize(self, args):
        self.tokenizer = Tokenizer.from_file(os.environ["MINILM_TOKENIZER"])
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MINILM_ONNX"], options, providers=["CPUExecutionProvider"]
        )
        self.wanted = {each.name for each in self.session.get_inputs()}

    def execute(self, requests):
        batches = [
            triton.get_input_tensor_by_name(request, "text").as_numpy().reshape(-1)
            for request in requests
        ]
        vectors = self.embed([text.decode() for batch in batches for text in batch])
        ends = np.cumsum([len(batch) for batch in batches])
        return [
            triton.InferenceResponse([triton.Tensor("embedding", part)])
            for part in np.split(vectors, ends[:-1])
        ]

    def embed(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        mask = np.array([each.attention_mask for each in encoded], dtype=np.int64)
        fed = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        fed = {name: value for name, value in fed.items() if name in self.wanted}
        tokens = self.session.run(None, fed)[0]
        weights = mask[:, :, None].astype(np.float32)
        return (tokens * weights).sum(axis=1) / weights.sum(axis=1)
