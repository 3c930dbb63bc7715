"""Language models in a folder of this machine, through ONNX Runtime GenAI."""
