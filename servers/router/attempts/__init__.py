"""Whom to try next, and one attempt at one candidate with what becomes of it."""
