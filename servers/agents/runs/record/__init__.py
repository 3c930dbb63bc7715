"""What a run has done: told live, put on disk, and found again when it goes on."""
