"""Attack programs, one for each way out of the sandbox, by the promise that they try to break."""

import re
from pathlib import Path

from tests.integration.tools.attacks import files, kernel, network, processes, secrets
from tests.integration.tools.attacks.common import ATTACKS, PROMISES

__all__ = ["ATTACKS", "PROMISES", "source"]

_FOLDER = Path(__file__).parent
_OWN_IMPORT = re.compile(r"^from tests\.[^\n(]*(?:\([^)]*\))?[^\n]*\n", re.MULTILINE)
_MODULES = {module.__name__: module for module in (files, kernel, network, processes, secrets)}


def source(name: str) -> bytes:
    """The program of one attack, for `python3 -I -S - NAME FACTS`: what all share, its own file, and the call."""
    module = _MODULES[ATTACKS[name].__module__]
    own = Path(str(module.__file__)).read_text()
    common = (_FOLDER / "common.py").read_text()
    return f"{common}\n{_OWN_IMPORT.sub('', own)}\nmain()\n".encode()
