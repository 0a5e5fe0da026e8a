"""How the script finds and mends the fault that a failing test shows. It knows a handful of faults by their looks."""

import re
from collections.abc import Iterable

_FRAME = re.compile(r'^\s*File "([^"]+\.py)", line \d+', re.MULTILINE)
_IMPORT = re.compile(r"^(?:from\s+([\w.]+)\s+import|import\s+([\w.]+))", re.MULTILINE)
_TEST_FOLDERS = ("tests", "test")

# (what the code says, what it should say, why), tried in this order: a rounding rule that the tests contradict.
RULES = (
    ("ROUND_HALF_EVEN", "ROUND_HALF_UP", "half a cent is rounded to the even neighbour, and must be rounded up"),
    ("ROUND_HALF_DOWN", "ROUND_HALF_UP", "half a cent is rounded down, and must be rounded up"),
    ("ROUND_DOWN", "ROUND_HALF_UP", "parts of a cent are cut off, and must be rounded half up"),
    ("ROUND_FLOOR", "ROUND_HALF_UP", "parts of a cent are cut off, and must be rounded half up"),
)


def failing_test_file(output: str) -> str:
    """The test file of the last traceback, relative to the root; "" where there is none."""
    for path in reversed(_FRAME.findall(output)):
        parts = path.split("/")
        for folder in _TEST_FOLDERS:
            if folder in parts[:-1]:
                start = len(parts) - 1 - parts[:-1][::-1].index(folder) - 1
                return "/".join(parts[start:])
        if parts[-1].startswith("test"):
            return parts[-1]
    return ""


def modules_under_test(source: str, listing: str) -> list[str]:
    """The files that a test imports and the listing of the repository knows by their folder, in order."""
    paths = []
    for first, second in _IMPORT.findall(source):
        name = first or second
        top = name.partition(".")[0]
        if "." in name and re.search(rf"(?<![\w-]){re.escape(top)}(?![\w-])", listing):
            paths.append(name.replace(".", "/") + ".py")
    return list(dict.fromkeys(paths))


def mended(source: str, tried: Iterable[str]) -> tuple[str, str] | None:
    """The source with one fault mended, and why; None where no known fault is left to try. `tried`: earlier versions."""
    seen = set(tried)
    for wrong, right, why in RULES:
        if not re.search(rf"\b{wrong}\b", source):
            continue
        new = re.sub(rf"\b{wrong}\b", right, source)
        if new not in seen:
            return new, why
    return None
