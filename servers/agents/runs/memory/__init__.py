"""What a run leaves in memory, and whether there is a place for it."""
