"""Tools of MCP servers: found there, accepted one by one, and called through the one door like any other.

`models` are the servers as rows, `naming` and `defining` turn what they say into definitions, `transport` and `session` talk to
them, `sessions` keeps one session a job, `calling` is a tool of theirs, `inspecting` looks what they have now.
"""

KIND = "mcp"
