"""An MCP server over two pipes (2025-11-25), for tests: gives back its first argument, and describes a tool by its second."""

import json
import sys

SAID, DESCRIBED = sys.argv[1], sys.argv[2]
TEXT = {"type": "string"}
TOOLS = [
    {
        "name": "read",
        "description": DESCRIBED,
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
    },
    {
        "name": "send",
        "description": "Sends a message.",
        "inputSchema": {
            "type": "object",
            "properties": {"to": TEXT, "text": TEXT},
            "required": ["to", "text"],
            "additionalProperties": False,
        },
    },
]


def answer(message: dict) -> dict | None:
    match message.get("method"):
        case "initialize":
            asked = message["params"]["protocolVersion"]
            about = {"name": "weather", "version": "1"}
            return {"protocolVersion": asked, "capabilities": {"tools": {}}, "serverInfo": about}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            said = SAID if message["params"]["name"] == "read" else "sent"
            return {"content": [{"type": "text", "text": said}], "isError": False}
        case "ping":
            return {}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    found = answer(message)
    body = {"result": found} if found is not None else {"error": {"code": -32601, "message": "no such method"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **body}), flush=True)
