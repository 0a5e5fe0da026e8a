"""Who calls, and functions that use the database, called from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver.exceptions import ToolError as Refusal

from agents import tokens
from agents.errors import AgentsError, InvalidInput
from agents.models import ApiToken
from approvals.errors import ApprovalsError
from tools.errors import ToolError

Scope = ApiToken.Scope
THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mcp")
DOMAIN_ERRORS = (AgentsError, ApprovalsError, ToolError)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user (primary key) and the token by which they call, with its scopes."""

    user_id: int
    token_id: UUID
    scopes: frozenset[str]

    def need(self, scope: str) -> None:
        """Raises Refusal: the token lacks the scope."""
        if scope not in self.scopes:
            raise Refusal(f"This token lacks the scope {scope}. (scope_missing)")

    def user(self) -> User:
        """Who it is, looked up anew: a wait outlives many changes. Uses the database.

        Raises:
            TokenRefused: the user or the token may do nothing any more.
        """
        return tokens.still_good(self.token_id, now=timezone.now()).user

    def token(self) -> ApiToken:
        return ApiToken.objects.get(pk=self.token_id)


def caller(scope: str = "") -> Caller:
    """Of the request that is being answered.

    Raises:
        Refusal: the token lacks `scope`.
    """
    token = get_access_token()
    if token is None:  # the door lets nobody in without one
        raise Refusal("Send a token: Authorization: Bearer cs_… (not_authenticated)")
    found = Caller(int(token.subject or 0), UUID(token.client_id), frozenset(token.scopes))
    if scope:
        found.need(scope)
    return found


def as_access(token: ApiToken) -> AccessToken:
    """The row as the SDK passes it on. The secret itself goes no further."""
    return AccessToken(
        token=token.hint,
        client_id=str(token.pk),
        subject=str(token.user_id),
        scopes=list(token.scopes),
        expires_at=None if token.expires_at is None else int(token.expires_at.timestamp()),
    )


async def call(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What `function` gives, called in a thread of its own, which gives its connection back.

    Raises:
        Refusal: what a domain error says, for the model to read.
    """
    return await asyncio.get_running_loop().run_in_executor(
        THREADS, lambda: _called(lambda: function(*arguments, **named))
    )


def _called(function: Callable[[], R]) -> R:
    try:
        return function()
    except DOMAIN_ERRORS as error:
        raise Refusal(told(error)) from error
    finally:
        connections.close_all()


def told(error: Exception) -> str:
    """A domain error in words, with every wrong field and the stable code."""
    message, code = getattr(error, "message", str(error)), getattr(error, "code", "error")
    if isinstance(error, InvalidInput) and any(field for field, _ in error.problems):
        message = " ".join(f"{field}: {said}" if field else said for field, said in error.problems[:20])
    return f"{message} ({code})"
