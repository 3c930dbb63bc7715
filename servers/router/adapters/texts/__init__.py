"""Texts into vectors and scores: what servers of these share, and those that do nothing else."""
