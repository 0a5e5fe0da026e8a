"""This server as an MCP server, at `/mcp`: jobs, governed tool calls, approvals to look at, logs to read.

Whoever calls is a user by one of our API tokens, and may do there what the token's scopes and the user's own rights let
them do over the API. Nothing that an answer needs is kept between two requests, so any of several web
processes answers any of them.
"""
