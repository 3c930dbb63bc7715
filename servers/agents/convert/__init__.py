"""Agents, runs and their events between the wire and the domain. Total functions, no I/O."""
