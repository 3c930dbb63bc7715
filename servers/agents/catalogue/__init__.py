"""Declared agents: read and checked, kept with their versions, found by name and by team."""
