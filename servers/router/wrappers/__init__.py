"""Routers around a router: each changes one thing and passes on the rest."""
