"""What goes to a model endpoint and what comes back, as values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible endpoint. base_url ends before `/chat/completions`; api_key may be empty (local servers)."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"  # never the key: this stands in tracebacks and logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chat completion. `messages`, `tools` and `response_format` are as the API takes them, the latter two never
    together; `output_tokens` bounds the answer."""

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    output_tokens: int
    response_format: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """What identifies the request, as JSON: the same for the same question."""
        return {
            "model": self.model,
            "messages": self.messages,
            "tools": self.tools,
            "output_tokens": self.output_tokens,
            **({"response_format": self.response_format} if self.response_format else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, as the endpoint counts them; `estimated` where it did not and bytes were counted; cached: those of the
    prompt that it had kept from before."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    cached_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            estimated=self.estimated or other.estimated,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCall:
    """A tool call as the model wrote it: nothing about it is checked but that it is text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer. model: the name that the endpoint gives; finish_reason: why it stopped; as_text: data that
    was asked for came as the answer's text, and stands as a call all the same."""

    content: str
    calls: tuple[RawCall, ...]
    finish_reason: str
    model: str
    usage: Usage
    as_text: bool = False


# About three bytes a token: English is nearer to four, code and other scripts are below. Used before a call, to
# reserve, and after it where the endpoint does not count.
BYTES_A_TOKEN = 3


def estimate_tokens(size_bytes: int) -> int:
    return -(-size_bytes // BYTES_A_TOKEN)


def clean(text: str) -> str:
    """Text that UTF-8 and PostgreSQL can hold: no NUL, no lone surrogate."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
