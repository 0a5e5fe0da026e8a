"""The signed, append-only log. The lowest layer: it knows the others by type and id text alone."""
