"""Which witnesses are asked, and how many must have cosigned: C2SP's tlog-policy file.

log <vkey> [<url>]
witness <name> <vkey> [<url>]
group <name> <k|any|all> <name>...
quorum <name|none>
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import InvalidNote, InvalidPolicy
from audit.notes import CosignatureVerifier, NoteVerifier

NONE = "none"
LINES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Witness:
    """url: where it takes checkpoints (`URL/add-checkpoint`), None where it is only read."""

    name: str
    verifier: CosignatureVerifier
    url: str | None = None


@dataclass(slots=True)
class Policy:
    """groups: name -> (how many, members); quorum: a witness's or a group's name, or `none`."""

    logs: list[NoteVerifier] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str = NONE

    def met(self, vkeys: Collection[str]) -> bool:
        """Do the witnesses with these keys suffice?"""
        return self.quorum == NONE or self._witnessed(self.quorum, vkeys)

    def _witnessed(self, name: str, vkeys: Collection[str]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name].verifier.vkey in vkeys
        needed, members = self.groups[name]
        return sum(self._witnessed(member, vkeys) for member in members) >= needed

    @property
    def verifiers(self) -> list[CosignatureVerifier]:
        """The witnesses' keys."""
        return [witness.verifier for witness in self.witnesses.values()]


def read_policy(path: Path) -> Policy:
    """Raises InvalidPolicy: malformed, or not to be read."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{path} cannot be read: {error}.") from None


def parse_policy(text: str) -> Policy:
    """Raises InvalidPolicy, which names the line."""
    policy, quorum, grouped = Policy(), None, set[str]()
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        raise InvalidPolicy("The policy is too long.")
    for number, line in enumerate(lines, start=1):
        words = line.strip(" \t").replace("\t", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            kind, *rest = words
            if kind == "log" and len(rest) in {1, 2}:
                policy.logs.append(NoteVerifier.from_vkey(rest[0]))
            elif kind == "witness" and len(rest) in {2, 3}:
                _new(policy, rest[0])
                policy.witnesses[rest[0]] = Witness(rest[0], CosignatureVerifier.from_vkey(rest[1]), *rest[2:])
            elif kind == "group" and len(rest) >= 3:
                _new(policy, rest[0])
                policy.groups[rest[0]] = _group(policy, rest[1], rest[2:], grouped)
            elif kind == "quorum" and len(rest) == 1 and quorum is None:
                quorum = rest[0]
                if quorum != NONE:
                    _known(policy, quorum)
            else:
                raise ValueError("it is no line of a policy, or the second `quorum`")
        except (ValueError, InvalidNote) as error:
            raise InvalidPolicy(f"Line {number} of the policy: {str(error).rstrip('.')}.") from None
    if quorum is None:
        raise InvalidPolicy("The policy names no quorum.")
    policy.quorum = quorum
    for keys in (policy.logs, policy.verifiers):
        if len({key.public_key for key in keys}) != len(keys):
            raise InvalidPolicy("The policy names one key twice.")
    return policy


def _new(policy: Policy, name: str) -> None:
    if name == NONE or name in policy.witnesses or name in policy.groups:
        raise ValueError(f"the name {name} is taken")


def _known(policy: Policy, name: str) -> None:
    if name not in policy.witnesses and name not in policy.groups:
        raise ValueError(f"{name} is defined nowhere above")


def _group(policy: Policy, needed: str, members: list[str], grouped: set[str]) -> tuple[int, tuple[str, ...]]:
    for member in members:
        _known(policy, member)
        if member in grouped:
            raise ValueError(f"{member} is a member twice")
        grouped.add(member)
    if needed not in {"any", "all"} and (not needed.isdecimal() or not needed.isascii() or needed.startswith("0")):
        raise ValueError(f"{needed} is no number of members")
    count = {"any": 1, "all": len(members)}.get(needed) or int(needed[:9])
    if not 1 <= count <= len(members):
        raise ValueError(f"{needed} of {len(members)} members cannot be")
    return count, tuple(members)
