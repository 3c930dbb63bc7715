"""Triton, by KServe's gRPC protocol."""
