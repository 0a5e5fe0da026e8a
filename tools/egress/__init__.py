"""The way out: which hosts a call may reach, how they are reached, and what is recorded of it."""
