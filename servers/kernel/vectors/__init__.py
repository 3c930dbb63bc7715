"""Texts with vectors, kept in stores: what RAG and semantic memory look things up in."""
