"""Documents that agents look things up in: read, cut, embedded, kept and found again."""
