"""How dangerous a call looks: a level, a number from 0 to 100, and the reasons in words.

This only decides whether people are asked. What a call can do is bounded by the sandbox, whatever it is called.
"""

from tools.risk.assess import HIGH_FROM, MEDIUM_FROM, Place, assess, assess_each, opinion_of, raised
from tools.risk.handles import secrets_of
from tools.risk.hosts import hosts_of
from tools.risk.programs import command_facts, programs_of
from tools.risk.reach import reach_of
from tools.risk.targets import UNTOLD, branch_of

__all__ = [
    "HIGH_FROM",
    "MEDIUM_FROM",
    "UNTOLD",
    "Place",
    "assess",
    "assess_each",
    "branch_of",
    "command_facts",
    "hosts_of",
    "opinion_of",
    "programs_of",
    "raised",
    "reach_of",
    "secrets_of",
]
