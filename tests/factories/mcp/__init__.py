"""What the MCP conformance suite asks of a server under test: tools, resources and prompts of its own at our `/mcp`."""
