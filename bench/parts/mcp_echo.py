"""An MCP server that says again what it is told, of the standard library alone."""

import json
import sys

TOOL = {
    "name": "echo",
    "description": "Says it again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def answer(asked):
    if asked["method"] == "initialize":
        version = asked["params"]["protocolVersion"]
        return {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        }
    if asked["method"] == "tools/list":
        return {"tools": [TOOL]}
    if asked["method"] == "tools/call":
        return {"content": [{"type": "text", "text": asked["params"]["arguments"]["text"]}]}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        found = answer(message)
        unknown = {"error": {"code": -32601, "message": "Method not found"}}
        print(
            json.dumps({"jsonrpc": "2.0", "id": message["id"], **({"result": found} if found else unknown)}), flush=True
        )
