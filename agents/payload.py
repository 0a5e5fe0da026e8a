"""The shape of a submission: what `POST /api/v1/jobs`, the form and the command line hand in.

Strict: unknown fields are refused, nothing is coerced. The same models describe the request in OpenAPI.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agents.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)

MAX_STEPS = 1000
MAX_NEEDS = 200
MAX_LABELS = 32
MAX_DEPTH = 32
MAX_ARGUMENTS_BYTES = 256 * 1024
MAX_GOAL_CHARS = 20_000

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", max_length=63)]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Priority = Annotated[int, Field(ge=0, le=9, description="0 (first) to 9 (last)")]

_MESSAGES = {
    "missing": "This field is required.",
    "extra_forbidden": "Unknown field.",
    "string_type": "Must be a string.",
    "int_type": "Must be a whole number.",
    "list_type": "Must be a list.",
    "dict_type": "Must be an object.",
    "model_type": "Must be an object.",
    "bool_type": "Must be true or false.",
}


ErrorClass = Literal["transient", "rate_limit", "bad_input", "denied", "timeout", "resource", "bug", "lost"]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class RetryRule(BaseModel):
    """Which failures of a step run again, how often and after how long: delay_s, then each time `backoff` as long, at
    most max_delay_s, jittered. Waiting is a row: no worker waits with it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_attempts: Annotated[int, Field(ge=1, le=100, description="In all, the first one included.")] = 3
    delay_s: Seconds = 1.0
    backoff: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = 2.0
    max_delay_s: Seconds = 60.0
    on: Annotated[
        list[ErrorClass],
        Field(min_length=1, max_length=8, description="Classes of errors; transient, rate_limit, lost, resource."),
    ] = ["transient", "rate_limit", "lost", "resource"]


class OtherCall(BaseModel):
    """A tool and its arguments, which may hold `${{ CEL }}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tool: Annotated[str, Field(max_length=120, description="A name from GET /api/v1/tools.")]
    arguments: Annotated[dict[str, Any], Field(description="As the tool's schema says.")] = {}


class Fallback(OtherCall):
    """Another way, for some errors or for all."""

    on: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]] | None,
        Field(min_length=1, max_length=16, description="Error classes or codes; every one by default."),
    ] = None


class StepInput(BaseModel):
    """One step of an inline plan. Steps without `needs` start at once; the others when all they need has succeeded."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[Slug, Field(description="Unique within the plan.")]
    tool: Annotated[str, Field(max_length=120, description="A name from GET /api/v1/tools.")]
    arguments: Annotated[dict[str, Any], Field(description="As the tool's schema says.")] = {}
    needs: Annotated[list[str], Field(max_length=MAX_NEEDS, description="Keys of steps that come first.")] = []
    needs_success: Annotated[bool, Field(description="false: runs when what it needs has ended, however.")] = True
    when: Annotated[str, Field(max_length=2000, description="CEL over steps, inputs and job; false skips it.")] = ""
    retry: Annotated[RetryRule | None, Field(description="Three attempts by default.")] = None
    timeout_s: Annotated[int | None, Field(ge=1, le=86_400, description="Wall clock of one attempt.")] = None
    fallbacks: Annotated[list[Fallback], Field(max_length=8, description="Tried in order where it fails.")] = []
    compensation: Annotated[
        OtherCall | None, Field(description="Undoes the step where it succeeded and the job fails or is cancelled.")
    ] = None
    reason: Annotated[str, Field(max_length=2000, description="Shown to approvers.")] = ""


class JobInput(BaseModel):
    """A job: a `goal` that an agent plans for, `steps` that run as given, or a `workflow` with its `inputs`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    goal: Annotated[str | None, Field(max_length=MAX_GOAL_CHARS, description="What to reach, in words.")] = None
    steps: Annotated[list[StepInput] | None, Field(min_length=1, max_length=MAX_STEPS)] = None
    workflow: Annotated[str | None, Field(max_length=100, description="By name: `ship`, or `ship@3`.")] = None
    version: Annotated[
        int | None, Field(ge=1, description="Of the workflow; its highest published one by default.")
    ] = None
    inputs: Annotated[dict[str, Any] | None, Field(description="Of the workflow, as its schema says.")] = None
    title: Annotated[str | None, Field(max_length=200, description="Names a plan or a workflow's job in lists.")] = None
    agent: Annotated[str | None, Field(max_length=80, description="By name; a goal's default is `developer`.")] = None
    capabilities: Annotated[
        list[Slug],
        Field(max_length=20, description="Instead of an agent's name: what it must be good for; the best record wins."),
    ] = []
    team: Annotated[str | None, Field(max_length=80, description="Instead of an agent: its lead gets the goal.")] = None
    planning: Annotated[
        Literal["loop", "plan", "review"] | None,
        Field(description="Of a goal: step by step, by a plan, or by one that a person looks at; the agent's own."),
    ] = None
    max_replans: Annotated[int | None, Field(ge=0, le=10, description="How often a goal may be planned anew.")] = None
    repository: Annotated[str | None, Field(max_length=80, description="By name.")] = None
    priority: Annotated[Priority | None, Field(description="5, or what the workflow says, by default.")] = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = {}
    deadline_s: Annotated[
        int | None, Field(ge=1, le=31_536_000, description="Wall clock of the whole job, from when it may begin.")
    ] = None
    max_tokens: Annotated[
        int | None, Field(ge=1, le=2_000_000_000, description="Of models, at most; never more than the agent's own.")
    ] = None
    max_cost: Annotated[
        float | None,
        Field(gt=0, le=1_000_000, description="US dollars for models, at most; never more than the agent's."),
    ] = None
    delay_s: Annotated[int | None, Field(ge=1, le=31_536_000, description="Begins that many seconds from now.")] = None
    starts_at: Annotated[
        str | None, Field(max_length=40, description="Begins then: RFC 3339 with an offset, such as …T09:00:00Z.")
    ] = None
    tenant: Annotated[str | None, Field(max_length=80, description="Yours, by name; needed by who has several.")] = None
    concurrency_key: Annotated[
        str | None,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _./:@+-]*$", max_length=200),
        Field(description="Of the tenant's jobs that share a key, such as `deploy/prod`, one runs at a time."),
    ] = None
    on_conflict: Annotated[
        Literal["queue", "reject", "cancel_running"],
        Field(description="Where another job has the key: wait for it, give 409, or cancel it and go next."),
    ] = "queue"


class TenantInput(BaseModel):
    """Whose work shares the workers, and within which bounds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Slug
    weight: Annotated[int, Field(ge=1, le=100, description="Its share against the others that wait.")] = 1
    max_running: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="Steps at a time; null: any number.")] = (
        None
    )
    jobs_queued_max: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="Unfinished jobs; null: any.")] = None
    groups: Annotated[list[str], Field(max_length=100, description="Names of groups whose members belong to it.")] = []


class TenantChange(BaseModel):
    """What to change of a tenant; what is not given stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    weight: Annotated[int | None, Field(ge=1, le=100)] = None
    max_running: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    jobs_queued_max: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    groups: Annotated[list[str] | None, Field(max_length=100)] = None


class RepositoryInput(BaseModel):
    """A git repository that jobs may work on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Slug
    url: Annotated[str, Field(max_length=500, description="https://…; a local path only where the server allows it.")]
    default_branch: Annotated[str, Field(min_length=1, max_length=200)] = "main"


class WorkflowInput(BaseModel):
    """A workflow's definition: as text, YAML or JSON, or as data."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[str | None, Field(max_length=300_000, description="YAML or JSON.")] = None
    definition: Annotated[dict[str, Any] | None, Field(description="The same as an object.")] = None
    note: Annotated[str, Field(max_length=500, description="What is new, in words.")] = ""


class ShareInput(BaseModel):
    """With whom to share: a user or a group, by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: Annotated[str | None, Field(max_length=150, description="A username.")] = None
    group: Annotated[str | None, Field(max_length=150, description="A group's name.")] = None


class ResolveInput(BaseModel):
    """What a person found out about a step in doubt."""

    model_config = ConfigDict(extra="forbid", strict=True)

    happened: Annotated[bool, Field(description="true: it succeeded; false: it did not happen and runs again.")]
    reason: Annotated[str, Field(max_length=2000, description="How you know; it stands in the audit log.")] = ""


class RetryInput(BaseModel):
    """From where to go on; without `from_step` all that did not succeed runs again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    from_step: Annotated[str, Field(max_length=80, description="A step's key: what comes before it stays.")] = ""
    did_not_happen: Annotated[
        list[str],
        Field(
            max_length=MAX_STEPS,
            description="Keys of steps that were stopped in mid-act, must not happen twice, and did not happen.",
        ),
    ] = []


class ForkInput(BaseModel):
    """Where the new job begins."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: Annotated[str, Field(max_length=80, description="A step's key: those before it are copied, it runs again.")]
    arguments: Annotated[dict[str, Any] | None, Field(description="Other ones for that step.")] = None


class EditInput(BaseModel):
    """A step that has not begun, changed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arguments: Annotated[dict[str, Any], Field(description="All of them, as the tool's schema says.")]


def parse(model: type[Model], payload: object) -> Model:
    """`payload` (decoded JSON) as `model`.

    Raises:
        InvalidInput: with every wrong field by its path (`steps[2].needs`).
    """
    if not isinstance(payload, Mapping):
        raise InvalidInput("The body must be a JSON object.")
    problems = list(unstorable(payload, ""))
    if not problems:
        try:
            return model.model_validate(dict(payload))
        except ValidationError as error:
            problems = [(_path(one["loc"]), _message(one)) for one in error.errors(include_url=False)]
    raise InvalidInput(_summary(problems), problems=problems)


def _summary(problems: list[tuple[str, str]]) -> str:
    field, message = problems[0]
    return f"{field}: {message}" if field else message


def _path(loc: tuple[int | str, ...]) -> str:
    """A pydantic location as people write it: `steps[2].arguments`. The marker of a mapping's key is dropped."""
    path = ""
    for part in loc:
        if part == "[key]":
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _message(error: Any) -> str:
    if error["type"] in _MESSAGES:
        return _MESSAGES[error["type"]]
    if error["type"] == "string_pattern_mismatch":
        pattern = error.get("ctx", {}).get("pattern", "")
        if "[A-Z" not in pattern:
            more = ", and * for anything" if "*-]" in pattern else ""
            return f"Small letters, digits, ., - and _ only{more}, starting with a letter."
        if ":" in pattern:
            return "Letters, digits, spaces and _ . / : @ + - only, starting with a letter or a digit."
        return "Letters, digits, - and _ only (a label's name also . and /), starting with a letter or a digit."
    text = str(error["msg"])
    return text[:1].upper() + text[1:] + "."


def unstorable(value: object, path: str) -> Iterator[tuple[str, str]]:
    """(where, what) of everything in a JSON value that could not be kept or signed."""
    return _unstorable(value, path, 0)


def _unstorable(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """What neither PostgreSQL nor RFC 8785 can hold: NUL, lone surrogates, numbers beyond 2^53, endless nesting."""
    if depth > MAX_DEPTH:
        yield path, f"Nested deeper than {MAX_DEPTH} levels."
    elif isinstance(value, str):
        if "\x00" in value:
            yield path, "Must not hold a NUL character."
        elif any("\ud800" <= char <= "\udfff" for char in value):
            yield path, "Must be valid Unicode."
    elif isinstance(value, int) and abs(value) > 2**53 - 1:
        yield path, "Numbers must be within ±(2^53 - 1)."
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "Must be a finite number."
    elif isinstance(value, Mapping):
        for key, one in value.items():
            here = f"{path}.{key}".removeprefix(".")
            if any(_unstorable(key, path, depth)):
                yield path, "Names must be valid Unicode without NUL."
            else:
                yield from _unstorable(one, here, depth + 1)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _unstorable(one, f"{path}[{index}]", depth + 1)
