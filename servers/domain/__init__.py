"""Frozen values and the Protocols by which services see one another. Standard library only."""
