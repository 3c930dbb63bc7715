"""Measurements of the mesh, next to what it is compared with: `python -m bench`."""
