"""The tool service: what a model can do besides talking."""
