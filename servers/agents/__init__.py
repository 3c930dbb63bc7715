"""Agents: declared, not programmed; and their runs."""
