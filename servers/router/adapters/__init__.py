"""What the router speaks to, a package for each; beside them stands what several of them use."""
