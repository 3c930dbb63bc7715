"""Embeddings, rankings and counts of tokens."""
