"""One run: its log, what of it is on disk when, and how it goes on after a crash."""
