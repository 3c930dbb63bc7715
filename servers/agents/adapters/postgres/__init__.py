"""Runs and declared agents in PostgreSQL, which several processes may share."""
