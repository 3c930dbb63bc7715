"""Runs and declared agents in one SQLite file, which one process has for itself."""
