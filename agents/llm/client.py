"""One call to an OpenAI-compatible endpoint: streamed, bounded, validated.

The `openai` package does not validate what it receives, takes settings from the environment and retries by itself. So
everything is passed explicitly, each attempt is one request, and each piece of the answer goes through the models
below. Importing this module costs 40 MB: only the process that calls models does (see `agents.llm.think`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from openai import OpenAI

from agents.llm import refusals
from agents.llm.assembly import Assembly
from agents.llm.errors import (
    CallCancelled,
    EndpointTimeout,
    EndpointUnreachable,
    LlmError,
    MalformedAnswer,
    NotAnAnswer,
)
from agents.llm.values import Answer, Endpoint, Request
from agents.llm.vectors import Vectors, vectors_of
from agents.llm.wire import CONNECT_TIMEOUT_S, Deadline, Transport

ANSWER_LIMIT_BYTES = 4 * 1024**2

# A piece of the model's words, as it comes.
OnText = Callable[[str], None]


def complete(
    endpoint: Endpoint,
    request: Request,
    *,
    deadline_s: float,
    on_text: OnText,
    cancelled: Callable[[], bool] = lambda: False,
) -> Answer:
    """Asks once and reads the whole answer; `deadline_s` bounds the call from its start to its last byte.

    `cancelled()` is asked twice a second, from a thread of its own, and ends the call within that time.

    Raises:
        LlmError: see `agents.llm.errors` for which and whether another try may help.
    """
    with Deadline(deadline_s, cancelled) as deadline:
        try:
            with _client(endpoint, deadline) as client:
                return _ask(client, endpoint, request, on_text)
        except LlmError as error:
            # The watchdog's shutdown looks like a cut stream to whoever reads.
            if deadline.over and not isinstance(error, EndpointTimeout | CallCancelled):
                raise deadline.error() from error
            raise
        except (openai.APIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            if deadline.over:
                raise deadline.error() from None
            raise _translate(error) from None


def embed(
    endpoint: Endpoint,
    *,
    model: str,
    texts: Sequence[str],
    dimensions: int | None,
    deadline_s: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> Vectors:
    """Turns texts into vectors, in one request; all of one length.

    Raises:
        LlmError: see `complete`; NotAnAnswer also where a vector is missing, of another length or not of numbers.
    """
    with Deadline(deadline_s, cancelled) as deadline:
        try:
            with _client(endpoint, deadline) as client:
                body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
                if dimensions is not None:
                    body["dimensions"] = dimensions
                # as bytes: the package would take the answer's shape for granted
                response = client.post("/embeddings", cast_to=httpx2.Response, body=body)
                return vectors_of(_parse(response.content), count=len(texts), model=model)
        except LlmError as error:
            if deadline.over and not isinstance(error, EndpointTimeout | CallCancelled):
                raise deadline.error() from error
            raise
        except (openai.APIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            if deadline.over:
                raise deadline.error() from None
            raise _translate(error) from None


def _client(endpoint: Endpoint, deadline: Deadline) -> OpenAI:
    transport = Transport(endpoint.api_key, deadline, ANSWER_LIMIT_BYTES)
    timeout = httpx2.Timeout(deadline.seconds, connect=min(CONNECT_TIMEOUT_S, deadline.seconds))
    return OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",
        # "" and not None: None means "look into the environment".
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        max_retries=0,
        timeout=timeout,
        http_client=httpx2.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False),
    )


def _ask(client: OpenAI, endpoint: Endpoint, request: Request, on_text: OnText) -> Answer:
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        _output_limit_name(endpoint.base_url): request.output_tokens,
    }
    if request.tools:
        parameters["tools"] = request.tools
    elif request.response_format:  # never both: some servers drop the calls then
        parameters["response_format"] = request.response_format
    assembly = Assembly(request)
    stream = client.chat.completions.create(**parameters)
    with stream:
        kind = stream.response.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "text/event-stream":
            answer = assembly.whole(_parse(stream.response.read()))
            if answer.content:
                on_text(answer.content)
            return answer
        for chunk in _chunks(stream):
            text = assembly.add(chunk)
            if text:
                on_text(text)
    return assembly.finish()


def _chunks(stream: Any) -> Iterator[object]:
    """The pieces as plain JSON values, whatever the package made of them."""
    try:
        for piece in stream:
            yield piece.to_dict(warnings=False) if hasattr(piece, "to_dict") else piece
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MalformedAnswer(f"The endpoint's stream is not JSON: {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        # What the package raises when a piece has a shape that it does not expect.
        raise NotAnAnswer(f"The endpoint's stream holds something else than completions: {error}") from None


def _parse(body: bytes) -> object:
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip()[:1] == "<":
            raise NotAnAnswer("The endpoint answered with a web page: does the base URL end in /v1?") from None
        raise MalformedAnswer(f"The endpoint's answer is not JSON: {text[:200]!r}") from None


def _output_limit_name(base_url: str) -> str:
    """OpenAI's newer models refuse `max_tokens`; many other servers know nothing else."""
    host = urlsplit(base_url).hostname or ""
    return "max_completion_tokens" if host == "openai.com" or host.endswith(".openai.com") else "max_tokens"


def _translate(error: Exception) -> LlmError:
    if isinstance(error, openai.APIStatusError):
        return refusals.by_status(error.status_code, error.message, error.body, dict(error.response.headers))
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return EndpointTimeout("The endpoint did not answer in time.")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError | httpx2.InvalidURL):
        why = error.__cause__ or error
        return EndpointUnreachable(f"No connection to the model endpoint: {why}")
    body = getattr(error, "body", None)
    return refusals.by_body(body if body is not None else {"message": str(error)})
