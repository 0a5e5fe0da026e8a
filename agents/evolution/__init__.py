"""Population search over the text of files: a model proposes, a command in the sandbox says how good it is."""
