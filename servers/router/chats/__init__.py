"""Chats: answered whole or piece by piece, also by models that lack something."""
