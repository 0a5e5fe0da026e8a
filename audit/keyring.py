"""Which checkpoint key spoke for the log at which size, from statements that stand in the log.

A statement is a signed note in a `key.rotate`, `key.revoke` or `log.restart` record:

    countersign/audit-key/v1
    rotate | revoke | restart
    from <size>                 the old key speaks for the log up to this size
    lost <size>                 restart: records from the size above to this one are gone
    old <vkey>
    new <vkey>

`rotate` and `restart` are signed by both keys, so that trust in one is trust in the other. `revoke` is signed by the new key
alone: a stolen key vouches for nothing, and who checks has to be given the new one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from audit.errors import InvalidNote
from audit.notes import CheckpointText, NoteSigner, NoteVerifier, open_note, text_of

HEADER = "countersign/audit-key/v1"
ROTATE, REVOKE, RESTART = "rotate", "revoke", "restart"
_TEXT = re.compile(
    rf"{HEADER}\n(rotate|revoke|restart)\nfrom (0|[1-9][0-9]{{0,18}})\n(?:lost ([1-9][0-9]{{0,18}})\n)?"
    r"old ([^\n]+)\nnew ([^\n]+)\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """from_size: what the old key speaks for; lost_to: RESTART alone, the size up to which records are gone."""

    kind: str
    from_size: int
    old: NoteVerifier
    new: NoteVerifier
    lost_to: int | None = None

    def text(self) -> str:
        """What is signed."""
        lost = f"lost {self.lost_to}\n" if self.lost_to is not None else ""
        return f"{HEADER}\n{self.kind}\nfrom {self.from_size}\n{lost}old {self.old.vkey}\nnew {self.new.vkey}\n"

    def sign(self, new: NoteSigner, old: NoteSigner | None) -> str:
        """The note; `old` signs too where it is still to be trusted."""
        note = new.sign(self.text())
        return note if old is None or self.kind == REVOKE else note + old.line(self.text())

    @classmethod
    def parse(cls, note: str) -> Self:
        """What a note says, whoever signed it.

        Raises:
            InvalidNote
        """
        match = _TEXT.fullmatch(text_of(note))
        if match is None or (match[1] == RESTART) != (match[3] is not None):
            raise InvalidNote("This is no statement about a checkpoint key.")
        return cls(
            kind=match[1],
            from_size=int(match[2]),
            lost_to=int(match[3]) if match[3] else None,
            old=NoteVerifier.from_vkey(match[4]),
            new=NoteVerifier.from_vkey(match[5]),
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """index: the place of the record that ends a key."""

    index: int
    statement: Statement


@dataclass(frozen=True, slots=True)
class Judged:
    """A checkpoint, and what it is worth. void: it speaks for records that are declared lost, or by a key that is
    revoked for them; ended: its key signed it after its end."""

    checkpoint: CheckpointText
    vkey: str
    void: bool = False
    ended: bool = False


@dataclass(slots=True)
class Ring:
    """keys: trusted checkpoint keys by vkey; endings: how each that is not in use any more ended."""

    keys: dict[str, NoteVerifier] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    refused: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def build(cls, pinned: Iterable[NoteVerifier], notes: Iterable[tuple[int, str]]) -> Self:
        """pinned: keys that are trusted from elsewhere. notes: (index of the record, its statement), in order.

        What nobody trusted signed, and what is malformed, stands in `refused` with the reason.
        """
        ring = cls({verifier.vkey: verifier for verifier in pinned})
        waiting = list(notes)
        moved = True
        while moved:
            moved, rest = False, []
            for index, note in waiting:
                if ring._learn(index, note):
                    moved = True
                else:
                    rest.append((index, note))
            waiting = rest
        for index, note in waiting:
            ring.refused.append((index, _why(note)))
        return ring

    def _learn(self, index: int, note: str) -> bool:
        try:
            statement = Statement.parse(note)
            signed = open_note(note, [statement.old, statement.new]).by
        except InvalidNote:
            return False
        needed = {statement.new.vkey} if statement.kind == REVOKE else {statement.old.vkey, statement.new.vkey}
        trusted = {statement.new.vkey} if statement.kind == REVOKE else needed
        if not needed <= signed or not trusted & set(self.keys) or statement.from_size > index:
            return False
        for verifier in (statement.old, statement.new):
            self.keys.setdefault(verifier.vkey, verifier)
        self.endings.setdefault(statement.old.vkey, Ending(index, statement))
        return True

    @property
    def first_vkey(self) -> str | None:
        """The key that the log was opened with: the one that no other was replaced by."""
        later = {ending.statement.new.vkey for ending in self.endings.values()}
        return next((vkey for vkey in self.keys if vkey not in later), None)

    @property
    def restarts(self) -> list[Ending]:
        """Declared losses, oldest first."""
        found = [ending for ending in self.endings.values() if ending.statement.kind == RESTART]
        return sorted(found, key=lambda ending: ending.index)

    def judge(self, note: str | bytes) -> Judged:
        """The checkpoint in a note that a key of this ring signed.

        Raises:
            InvalidNote: malformed, or no key of this ring signed it.
        """
        opened = open_note(note, self.keys.values())
        checkpoint = CheckpointText.parse(opened.text)
        best: Judged | None = None
        for vkey in sorted(opened.by):
            judged = self._judge(checkpoint, vkey)
            if best is None or ((best.void or best.ended) and not (judged.void or judged.ended)):
                best = judged
        assert best is not None
        return best

    def _judge(self, checkpoint: CheckpointText, vkey: str) -> Judged:
        ending = self.endings.get(vkey)
        if ending is None or checkpoint.size <= ending.statement.from_size:
            return Judged(checkpoint, vkey)
        kind, limit = ending.statement.kind, ending.statement.lost_to
        if kind == RESTART:
            return Judged(checkpoint, vkey, void=checkpoint.size <= (limit or 0), ended=checkpoint.size > (limit or 0))
        if kind == REVOKE and checkpoint.size <= ending.index:
            return Judged(checkpoint, vkey, void=True)
        return Judged(checkpoint, vkey, ended=True)


def _why(note: str) -> str:
    try:
        statement = Statement.parse(note)
    except InvalidNote as error:
        return str(error)
    return f"no key that is trusted here signed that {statement.new.name}+{statement.new.key_hash.hex()} follows"
