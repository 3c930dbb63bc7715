"""What agents remember between runs."""
