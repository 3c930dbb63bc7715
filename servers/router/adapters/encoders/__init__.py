"""Models that read texts on this machine: embeddings and rankings, outside the event loop."""
