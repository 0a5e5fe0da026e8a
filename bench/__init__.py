"""What it costs, and what it survives: one command each."""
