"""Tools and a prompt that ask the client something, in the way of each protocol era."""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]


def add_to(server: MCPServer[Any]) -> None:
    _in_a_call(server)
    _between_calls(server)
    _with_state(server)

    @server.prompt(description="Asks for its context first.")
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        given = (ctx.input_responses or {}).get("user_context")
        if given is None:
            return _ask(user_context=_form("What context should the prompt use?", context="string"))
        return f"Use this context: {given.content['context']}"


def _in_a_call(server: MCPServer[Any]) -> None:
    """The handshake era: the server sends a request while the call is open."""

    @server.tool(description="Asks the client's model.")
    async def test_sampling(prompt: str, ctx: Ctx) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {answer.content.text}"

    @server.tool(description="Asks the client's user.")
    async def test_elicitation(message: str, ctx: Ctx) -> str:
        properties = {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        }
        answer = await _elicit(ctx, message, properties, required=["username", "email"])
        return f"User response: {answer}"

    @server.tool(description="Asks with defaults.")
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
        properties = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return f"Elicitation completed: {await _elicit(ctx, 'Please check the values.', properties)}"

    @server.tool(description="Asks with choices.")
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
        options = ["option1", "option2", "option3"]
        names = ["First", "Second", "Third"]
        titled = [{"const": f"value{n}", "title": f"{name} Option"} for n, name in enumerate(names, 1)]
        chosen = [{"const": f"value{n}", "title": f"{name} Choice"} for n, name in enumerate(names, 1)]
        properties = {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": chosen}},
        }
        return f"Elicitation completed: {await _elicit(ctx, 'Please choose.', properties)}"


async def _elicit(ctx: Ctx, message: str, properties: dict[str, Any], required: list[str] | None = None) -> str:
    schema = {"type": "object", "properties": properties, "required": required or []}
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={answer.action}, content={answer.content}"


def _between_calls(server: MCPServer[Any]) -> None:
    """The newer era: the call ends with a question, and comes again with the answer."""

    @server.tool(description="Asks for a name.", structured_output=False)
    async def test_input_required_result_elicitation(ctx: Ctx) -> Any:
        given = (ctx.input_responses or {}).get("user_name")
        if given is None:
            return _ask(user_name=_form("What is your name?", name="string"))
        return f"Hello, {given.content['name']}!"

    @server.tool(description="Asks while it streams.", structured_output=False)
    async def test_streaming_elicitation(ctx: Ctx) -> Any:
        await ctx.report_progress(1, 2)
        return _ask(user_name=_form("What is your name?", name="string"))

    @server.tool(description="Asks the client's model.", structured_output=False)
    async def test_input_required_result_sampling(ctx: Ctx) -> Any:
        given = (ctx.input_responses or {}).get("capital_question")
        if given is None:
            return _ask(capital_question=_sample("What is the capital of France?", 100))
        return f"The model says: {given.content.text}"

    @server.tool(description="Asks for roots.", structured_output=False)
    async def test_input_required_result_list_roots(ctx: Ctx) -> Any:
        given = (ctx.input_responses or {}).get("client_roots")
        if given is None:
            return _ask(client_roots=ListRootsRequest())
        return "Roots: " + ", ".join(str(one.uri) for one in given.roots)

    @server.tool(description="Asks only what the client can answer.", structured_output=False)
    async def test_input_required_result_capabilities(ctx: Ctx) -> Any:
        able = ctx.client_capabilities
        asked: dict[str, Any] = {}
        if able is not None and able.sampling is not None:
            asked["question"] = _sample("What is the capital of France?", 100)
        if able is not None and able.elicitation is not None:
            asked["user_name"] = _form("What is your name?", name="string")
        return _ask(**asked) if asked and not ctx.input_responses else "done"

    @server.tool(description="Needs a client that can sample.")
    async def test_missing_capability(ctx: Ctx) -> str:
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            needed = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", needed)
        return "able"


def _with_state(server: MCPServer[Any]) -> None:
    async def confirmed(ctx: Ctx) -> Any:
        if ctx.request_state is None:
            return _ask("asked", confirm=_form("Please confirm", ok="boolean"))
        if ctx.request_state != "asked":
            raise ToolError("This state is not ours.")
        return "state-ok"

    for name in ("test_input_required_result_request_state", "test_input_required_result_tampered_state"):
        server.add_tool(confirmed, name=name, description="Carries a state.", structured_output=False)

    @server.tool(description="Asks three things at once.", structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Any:
        given = ctx.input_responses or {}
        if not {"user_name", "greeting", "client_roots"} <= set(given):
            return _ask(
                "three",
                user_name=_form("What is your name?", name="string"),
                greeting=_sample("Generate a greeting", 50),
                client_roots=ListRootsRequest(),
            )
        return f"{given['greeting'].content.text} {given['user_name'].content['name']}"

    @server.tool(description="Asks twice.", structured_output=False)
    async def test_input_required_result_multi_round(ctx: Ctx) -> Any:
        given, state = ctx.input_responses or {}, ctx.request_state or ""
        if state.startswith("name:") and "step2" in given:
            return f"{state.removeprefix('name:')} likes {given['step2'].content['color']}"
        if state == "first" and "step1" in given:
            name = given["step1"].content["name"]
            return _ask(f"name:{name}", step2=_form("Step 2: What is your favorite color?", color="string"))
        return _ask("first", step1=_form("Step 1: What is your name?", name="string"))


def _ask(state: str | None = None, **asked: Any) -> InputRequiredResult:
    return InputRequiredResult(input_requests=asked, request_state=state)


def _form(message: str, **fields: str) -> ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": list(fields),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, max_tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))
