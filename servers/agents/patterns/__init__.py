"""Ways to reason. Each is a function over `Steps`, which does and records the work."""
