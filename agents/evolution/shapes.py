"""What the tools of a search share: arguments, and their error."""

from typing import Any

from agents.evolution.population import MAXIMISE, MINIMISE
from tools.errors import ToolFailed

POPULATION_MAX, GENERATIONS_MAX, FILES_MAX = 32, 50, 8
FILE_MAX_BYTES = 64 * 1024

PLACE: dict[str, Any] = {
    "generation": {"type": "integer", "minimum": 1, "maximum": GENERATIONS_MAX},
    "number": {"type": "integer", "minimum": 0, "maximum": POPULATION_MAX - 1, "description": "Within its generation."},
}
DIRECTION: dict[str, Any] = {
    "enum": [MINIMISE, MAXIMISE],
    "description": "Whether less or more is better; min if not told.",
}
TRIAL: dict[str, Any] = {
    "command": {
        "type": "array",
        "items": {"type": "string", "maxLength": 4096},
        "minItems": 1,
        "maxItems": 64,
        "description": "What says how good the files are: word by word, in a copy of the work tree. It ends with a line "
        'that is a number, or {"score": number}; another exit code than 0 means that they do not work.',
    },
    "runs": {"type": "integer", "minimum": 1, "maximum": 20, "description": "The median of so many; 1 if not told."},
    "timeout_s": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1800,
        "description": "Of one run; 120 if not told.",
    },
}
TIMEOUT_S = 120.0


def schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


class SearchFailed(ToolFailed):
    """Fails for good, with a code of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.code = code
