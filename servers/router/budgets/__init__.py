"""Budgets, the ledgers that they are kept in, and the record of what calls used."""
