"""The shapes of what people and programs send to conversations. Strict, as `agents.payload`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.payload import MAX_GOAL_CHARS

Message = Annotated[str, Field(min_length=1, max_length=MAX_GOAL_CHARS, description="What you say.")]
Title = Annotated[str, Field(max_length=200, description="A name; an empty one is given by the model.")]


class ChatInput(BaseModel):
    """A new conversation, with its first message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    message: Message
    agent: Annotated[str | None, Field(max_length=80, description="By name; `developer` by default.")] = None
    repository: Annotated[
        str | None, Field(max_length=80, description="By name: its files are the agent's to read and work on.")
    ] = None
    title: Title = ""
    tenant: Annotated[str | None, Field(max_length=80, description="Yours, by name; needed by who has several.")] = None


class MessageInput(BaseModel):
    """One more message: the next turn."""

    model_config = ConfigDict(extra="forbid", strict=True)

    message: Message


class ChatChange(BaseModel):
    """Another title, or whether it stands in the list."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    archived: bool | None = None


class LinkInput(BaseModel):
    """Who is signed in and has the link reads the conversation, until it ends or is revoked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    shows: Annotated[
        Literal["now", "later"], Field(description="Only what was said so far, or also what comes later.")
    ] = "now"
    days: Annotated[int | None, Field(ge=1, le=365, description="It ends after so many; null: only when revoked.")] = 30
