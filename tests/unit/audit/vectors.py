"""Public test vectors, where the folder that holds them stands beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "vectors" / "audit"

needs_vectors = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the public test vectors are not beside this repository (../shared/vectors/audit)"
)


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
