"""Puts the big services together. Belongs to `servers.mesh`, the composition root."""
