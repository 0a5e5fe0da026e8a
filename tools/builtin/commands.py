"""How dangerous commands look: their readings (`tools.commands`), as a risk.

This only decides whether a person is asked. What a command can do is decided by the sandbox, whatever it is called.
"""

from collections.abc import Sequence

from tools.commands import Reading, read
from tools.spec import Risk, RiskScore


def score(commands: Sequence[Sequence[str]], cwd: str = ".") -> RiskScore:
    """The worst of the commands, with every reason for it. cwd: the folder of the work tree that they begin in."""
    return scored(read(commands, cwd))


def scored(told: Reading) -> RiskScore:
    """A reading's risk."""
    return RiskScore(level=told.risk, reasons=told.reasons)


def judge(argv: Sequence[str]) -> tuple[Risk, str]:
    """The risk of one command, and why in words."""
    told = read([argv])
    return told.risk, "; ".join(told.reasons)
