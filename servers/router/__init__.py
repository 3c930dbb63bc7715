"""One door to every language model: candidates, fallback, breakers, usage and cost."""
