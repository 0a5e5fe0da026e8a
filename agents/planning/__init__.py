"""Plans of agents: their shape, what policy says of them, how two differ, and the tools by which they are made and run."""
