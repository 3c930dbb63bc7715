"""What the RAG service is made of: readers of files, and the stores that keep vectors."""
