"""Checkpoints to places outside that nobody of this server can change. One module a kind of place."""
