"""Says its prompt back in one piece. It takes no parameters and says nothing of tokens."""

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        prompts = [triton.get_input_tensor_by_name(request, "prompt") for request in requests]
        return [
            triton.InferenceResponse([triton.Tensor("answer", prompt.as_numpy())])
            for prompt in prompts
        ]
