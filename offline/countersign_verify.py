#!/usr/bin/env python3
"""Checks a Countersign audit log without Countersign: needs Python 3.9 or later and the package `cryptography`.

    countersign_verify.py export DIR            a folder that `audit_export` wrote
    countersign_verify.py proof FILE...         ID.tlog-proof files, each with ID.entry beside it
    countersign_verify.py bundle FILE           what the server gives for one job (a ZIP)
    countersign_verify.py consistency FILE      what `audit_consistency --out` wrote
    countersign_verify.py compare OLD NEW       two checkpoint files: is one view of one log possible?
    countersign_verify.py note FILE             a checkpoint: who signed it, and which witnesses

Give --vkey with the log's public key that YOU wrote down; without it the key beside the files is used, and that is said.
--policy FILE (C2SP tlog-policy) asks for witnesses. Exit codes: 0 whole, 2 tampered, 3 stale or a quorum is missing,
1 the check could not run. Formats: RFC 6962, c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-tiles.
"""

# ruff: noqa: UP017, UP031, RUF005
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    print("countersign_verify: install the Python package `cryptography`.", file=sys.stderr)
    sys.exit(1)

WHOLE, CANNOT, TAMPERED, STALE = 0, 1, 2, 3
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
BACKDATED, POSTDATED = timedelta(minutes=15), timedelta(minutes=5)
COSIGNED_WITHIN = timedelta(minutes=10)
UNFIT = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Bad(Exception):
    """Something does not hold; the message says what."""


class Report:
    def __init__(self) -> None:
        self.findings: list[dict] = []
        self.done: list[str] = []
        self.code = WHOLE

    def bad(self, code: str, message: str, stale: bool = False, **where: object) -> None:
        self.findings.append({"code": code, "message": message, "level": "stale" if stale else "tampered", **where})
        if not stale:
            self.code = TAMPERED
        elif self.code == WHOLE:
            self.code = STALE

    def checked(self, message: str) -> None:
        self.done.append(message)


# ---------------------------------------------------------------- hashes and trees (RFC 6962)


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The right edge of a growing tree."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[bytes] = []

    def append(self, value: bytes) -> None:
        rest = self.size
        while rest & 1:
            value, rest = node_hash(self.edge.pop(), value), rest >> 1
        self.edge.append(value)
        self.size += 1

    def root(self) -> bytes:
        if not self.edge:
            return hashlib.sha256(b"").digest()
        value = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            value = node_hash(left, value)
        return value


def check_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """RFC 9162, 2.1.3.2."""
    if not 0 <= index < size:
        raise Bad("the index lies outside the log")
    place, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Bad("the proof is too long")
        if place & 1 or place == last:
            value = node_hash(sibling, value)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        place, last = place >> 1, last >> 1
    if last or value != root:
        raise Bad("the proof does not lead to the signed root")


def check_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: list[bytes]) -> None:
    """RFC 9162, 2.1.4.2."""
    if not 0 < old_size <= new_size:
        raise Bad("the older log must be the smaller one, and not empty")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise Bad("two roots for one size: the log forked")
        return
    rest = ([old_root] if old_size & (old_size - 1) == 0 else []) + proof
    if not rest:
        raise Bad("the proof is empty")
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise Bad("the proof is too long")
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last or old != old_root or new != new_root:
        raise Bad("the newer log does not continue the older one")


# ---------------------------------------------------------------- signed notes (C2SP)


def unbase64(text: str, length: int = 0) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad("that is not base64") from None
    if base64.b64encode(data).decode() != text or (length and len(data) != length):
        raise Bad("that is not %s bytes of canonical base64" % (length or "some"))
    return data


class Key:
    """A public key as NAME+HASH+BASE64(type, key): type 1 signs notes, type 4 cosigns as a witness."""

    def __init__(self, vkey: str) -> None:
        self.vkey = vkey
        self.name, _, rest = vkey.partition("+")
        self.hash_hex, _, encoded = rest.partition("+")
        typed = unbase64(encoded, 33)
        self.kind, self.public = typed[0], Ed25519PublicKey.from_public_bytes(typed[1:])
        self.hash = hashlib.sha256(self.name.encode() + b"\n" + typed).digest()[:4]
        if not self.name or self.kind not in (1, 4) or self.hash.hex() != self.hash_hex or re.search(r"\s", self.name):
            raise Bad("%r is no verifier key" % vkey[:80])

    def accepts(self, text: bytes, signature: bytes) -> bool:
        if self.kind == 4:
            if len(signature) != 72 or signature[0] & 0x80:
                return False
            text = b"cosignature/v1\ntime %d\n" % int.from_bytes(signature[:8], "big") + text
            signature = signature[8:]
        try:
            self.public.verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Note:
    def __init__(self, raw: str) -> None:
        head, blank, tail = raw.rpartition("\n\n")
        if not blank or not tail.endswith("\n") or any(ord(char) < 32 and char != "\n" for char in raw):
            raise Bad("that is no signed note")
        self.raw, self.text = raw, head + "\n"
        self.signatures: list[tuple[str, bytes, bytes]] = []
        for line in tail[:-1].split("\n"):
            match = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
            data = unbase64(match.group(2)) if match else b""
            if match is None or len(data) < 5:
                raise Bad("a signature line is malformed")
            self.signatures.append((match.group(1), data[:4], data[4:]))

    def signed_by(self, keys: list[Key]) -> list[tuple[Key, bytes]]:
        """The keys whose signature holds; raises where one of these keys is named with a wrong signature."""
        found = []
        for name, hash_, signature in self.signatures:
            for key in keys:
                if (key.name, key.hash) == (name, hash_):
                    if not key.accepts(self.text.encode(), signature):
                        raise Bad("the signature of %s is wrong" % name)
                    found.append((key, signature))
        return found

    def checkpoint(self) -> tuple[str, int, bytes]:
        """(origin, size, root)"""
        lines = self.text[:-1].split("\n")
        if len(lines) < 3 or not all(lines) or not SIZE.fullmatch(lines[1]):
            raise Bad("that is no checkpoint")
        return lines[0], int(lines[1]), unbase64(lines[2], 32)


class Policy:
    """C2SP tlog-policy."""

    def __init__(self, text: str) -> None:
        self.witnesses: dict[str, Key] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.quorum = ""
        for line in text.split("\n"):
            words = line.split()
            if not words or words[0].startswith("#") or words[0] == "log":
                continue
            if words[0] == "witness" and len(words) in (3, 4):
                self.witnesses[words[1]] = Key(words[2])
            elif words[0] == "group" and len(words) >= 4:
                needed = {"any": "1", "all": str(len(words) - 3)}.get(words[2], words[2])
                if not needed.isdecimal() or not 1 <= int(needed) <= len(words) - 3 or not self.known(words[3:]):
                    raise Bad("a group of the policy is malformed")
                self.groups[words[1]] = (int(needed), words[3:])
            elif words[0] == "quorum" and len(words) == 2 and not self.quorum and self.known(words[1:]):
                self.quorum = words[1]
            else:
                raise Bad("the policy is malformed: %r" % line[:80])
        if not self.quorum:
            raise Bad("the policy names no quorum")

    def known(self, names: list[str]) -> bool:
        return all(name == "none" or name in self.witnesses or name in self.groups for name in names)

    def met(self, vkeys: set[str], name: str = "") -> bool:
        name = name or self.quorum
        if name == "none" or name in self.witnesses:
            return name == "none" or self.witnesses[name].vkey in vkeys
        needed, members = self.groups[name]
        return sum(self.met(vkeys, member) for member in members) >= needed


def cosigners(report: Report, policy: Policy, note: Note) -> dict[str, tuple[str, int]]:
    """Who of the policy's witnesses cosigned: vkey -> (name, seconds since 1970)"""
    seen = {}
    for key in policy.witnesses.values():
        try:
            for _, signature in note.signed_by([key]):
                seen[key.vkey] = (key.name, int.from_bytes(signature[:8], "big"))
        except Bad as error:
            report.bad("cosignature_wrong", "A cosignature is forged: %s." % error)
    return seen


def check_quorum(report: Report, policy: Policy, note: Note) -> None:
    seen = cosigners(report, policy, note)
    tell_cosigners(report, seen)
    if not policy.met(set(seen)):
        report.bad("quorum_missing", "Fewer witnesses cosigned the checkpoint than the policy asks for.", stale=True)


def tell_cosigners(report: Report, seen: dict[str, tuple[str, int]]) -> None:
    for name, at in seen.values():
        report.checked("witness %s cosigned it at %s" % (name, datetime.fromtimestamp(at, timezone.utc).isoformat()))


def check_log_quorum(report: Report, policy: Policy, notes: list[Note], size: int, beat: datetime | None) -> None:
    """Of a whole log: witnesses are asked every few seconds, so the last records may have come after they were.

    `notes`: checkpoints of this log, whose roots were compared with it; `beat`: the last heartbeat's time. A quorum must
    stand under a checkpoint over all records, or have been there at most ten minutes before that heartbeat.
    """
    best, seen = -1, {}  # type: int, dict[str, tuple[str, int]]
    for there, note in sorted(((note.checkpoint()[1], note) for note in notes), key=lambda one: one[0], reverse=True):
        found = cosigners(report, policy, note) if there <= size else {}
        if there <= size and policy.met(set(found)):
            best, seen = there, found
            break
    if best < 0:
        report.bad(
            "quorum_missing", "No checkpoint was cosigned by as many witnesses as the policy asks for.", stale=True
        )
        return
    report.checked("enough witnesses cosigned the first %d of %d records" % (best, size))
    tell_cosigners(report, seen)
    at = datetime.fromtimestamp(min([at for _, at in seen.values()] or [0]), timezone.utc)
    if seen and best < size and (beat is None or beat - at > COSIGNED_WITHIN):
        report.bad(
            "quorum_missing",
            "The last checkpoint that enough witnesses cosigned is of %s: %d of %d records."
            % (at.isoformat(), best, size),
            stale=True,
        )


# ---------------------------------------------------------------- checkpoint keys that follow each other

STATEMENT = re.compile(
    r"countersign/audit-key/v1\n(rotate|revoke|restart)\nfrom (\d+)\n(?:lost (\d+)\n)?old ([^\n]+)\nnew ([^\n]+)\n"
)


class Ring:
    """Which key spoke for the log at which size."""

    def __init__(
        self, pinned: list[Key], statements: list[tuple[int, str]], report: Report, accepted: list[int]
    ) -> None:
        self.keys = {key.vkey: key for key in pinned}
        self.ends: dict[str, tuple[str, int, int, int]] = {}  # vkey -> kind, from, lost to, index
        waiting, learned = statements, True
        while learned:
            rest = [one for one in waiting if not self.learn(*one)]
            learned, waiting = len(rest) < len(waiting), rest
        for index, _ in waiting:
            report.bad(
                "key_statement_invalid", "No trusted key signed that another checkpoint key follows.", index=index
            )
        for vkey, (kind, start, lost, index) in self.ends.items():
            report.checked(
                "checkpoint key %s ended at size %d (%s, index %d)" % (vkey[: vkey.rindex("+")], start, kind, index)
            )
            if kind == "restart" and start not in accepted:
                report.bad(
                    "records_lost", "Records %d to %d were lost; that was declared." % (start, lost - 1), index=index
                )

    def learn(self, index: int, raw: str) -> bool:
        try:
            note = Note(raw)
            match = STATEMENT.fullmatch(note.text)
            if match is None:
                return False
            kind, start, lost, old, new = match.groups()
            keys = [Key(new)] if kind == "revoke" else [Key(old), Key(new)]
            if len({key.vkey for key, _ in note.signed_by(keys)}) < len(keys) or int(start) > index:
                return False
            if not any(key.vkey in self.keys for key in keys):
                return False
            for vkey in (old, new):
                self.keys.setdefault(vkey, Key(vkey))
        except Bad:
            return False
        self.ends.setdefault(old, (kind, int(start), int(lost or 0), index))
        return True

    def judge(self, note: Note) -> str:
        """'' where the checkpoint counts, `void` where it counts for nothing, else what is wrong."""
        try:
            signed = note.signed_by(list(self.keys.values()))
            origin, size, _ = note.checkpoint()
        except Bad as error:
            return "is invalid: %s" % error
        if not signed:
            return "is not signed by this log's key"
        why = ""
        for key, _ in signed:
            kind, start, lost, index = self.ends.get(key.vkey, ("", size, 0, 0))
            if key.name != origin:
                why = "is of another log, %s" % origin
            elif size <= start:
                return ""
            elif (kind == "restart" and size <= lost) or (kind == "revoke" and size <= index):
                why = "void"
            else:
                why = "speaks for %d records with a key that ended at %d" % (size, start)
        return why


# ---------------------------------------------------------------- what a folder holds


def tile_file(folder: Path, level: object, number: int, width: int) -> bytes:
    parts = ["%03d" % (number % 1000)]
    rest = number // 1000
    while rest:
        parts.insert(0, "x%03d" % (rest % 1000))
        rest //= 1000
    base = folder / "tile" / str(level) / "/".join(parts)
    partial = base.with_name("%s.p" % base.name)
    wider = [path for path in partial.glob("*") if path.name.isdecimal() and int(path.name) >= width]
    for path in [base] + sorted(wider, key=lambda path: int(path.name)):
        if path.is_file():
            return path.read_bytes()
    raise Bad("%s of width %d is missing" % (base, width))


def entries(folder: Path, size: int):
    """Yields (entry, hash in the tile)."""
    for number in range((size + 255) // 256):
        width = min(256, size - 256 * number)
        data, tile, at = tile_file(folder, "entries", number, width), tile_file(folder, 0, number, width), 0
        for place in range(width):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if at + 2 > len(data) or end > len(data):
                raise Bad("bundle %d of entries is too short" % number)
            yield data[at + 2 : end], tile[32 * place : 32 * place + 32]
            at = end


def check_upper_tiles(report: Report, folder: Path, size: int) -> None:
    level, count = 1, size >> 8
    while count:
        for index in range(count):
            hashes = tile_file(folder, level - 1, index, 256)
            tree = Tree()
            for at in range(0, 8192, 32):
                tree.append(hashes[at : at + 32])
            width = min(256, count - index // 256 * 256)
            stored = tile_file(folder, level, index // 256, width)[index % 256 * 32 :][:32]
            if stored != tree.root():
                report.bad("tile_differs", "A tile of level %d is not over the tiles below it." % level, index=index)
        level, count = level + 1, count >> 8


def canonical(facts: object) -> bytes:
    """RFC 8785 for what bodies hold: no floats, names in ASCII."""
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


class Records:
    """Every entry in order: bytes, signature, key, time, identity."""

    def __init__(self, report: Report, endorsers: set[bytes]) -> None:
        self.report, self.endorsers = report, endorsers
        self.partial = False  # a part of a log: what a record followed may stand elsewhere
        self.keys: dict[str, Ed25519PublicKey] = {}
        self.ends: dict[str, int] = {}
        self.places: dict[str, int] = {}
        self.commits: dict[str, dict] = {}
        self.erased: set[tuple[str, str]] = set()
        self.statements: list[tuple[int, str]] = []
        self.opened: list[tuple[int, str]] = []
        self.archived: list[tuple[str, str]] = []  # ids from the first on and below the second
        self.beat: datetime | None = None
        self.latest: tuple[datetime, dict] | None = None

    def first(self, index: int, entry: bytes) -> None:
        """Keys and what ends them, before any signature is checked: a revocation names an earlier index."""
        try:
            body, tail = entry.decode().split("\n")[:2]
            facts, kid = json.loads(body), tail.split(" ")[0]
            event, context = facts["event"], facts["context"]
            if event == "key.add":
                self.enrol(index, kid, context)
            elif event in ("key.revoke", "key.retire", "key.rotate", "log.restart"):
                if "statement" in context:
                    self.statements.append((index, context["statement"]))
                else:
                    self.ends[context["kid"]] = min(int(context["from_index"]), self.ends.get(context["kid"], 1 << 62))
            elif event == "log.archived":
                self.archived.append((context["lower"] or "", context["upper"] or "g"))
            elif event == "log.opened":
                self.opened.append((index, context["vkey"]))
            elif event == "payload.erased":
                self.erased.update((facts["target"]["id"], slot) for slot in context["slots"])
        except UNFIT:
            return  # said by `read`

    def enrol(self, index: int, kid: str, context: dict) -> None:
        try:
            public = unbase64(context["public_key"], 32)
            endorser = unbase64(context["enrolment_key"], 32)
            if hashlib.sha256(public).hexdigest()[:16] != kid or context["kid"] != kid:
                raise Bad("it is not signed with the key that it names")
            if endorser not in self.endorsers:
                raise Bad("nobody who is trusted endorsed it")
            message = b"audit-enrolment/v1\n" + ("%s %s\n" % (kid, public.hex())).encode()
            Ed25519PublicKey.from_public_bytes(endorser).verify(unbase64(context["endorsement"]), message)
        except (Bad, InvalidSignature) as error:
            self.report.bad("key_not_endorsed", "A record brings a key that may not sign: %s." % error, index=index)
            return
        self.keys.setdefault(kid, Ed25519PublicKey.from_public_bytes(public))
        self.places.setdefault("enrolled " + endorser.hex(), index)
        if index >= self.ends.get(endorser.hex(), 1 << 62):
            self.report.bad("key_not_endorsed", "The key that endorsed another had ended.", index=index)

    def read(self, index: int, entry: bytes) -> dict:
        """The entry as records.jsonl has it, {} where it is none of ours."""
        bad = self.report.bad
        try:
            body, tail, end = entry.decode().split("\n")
            kid, signature, prev = tail.split(" ")
            facts, raw = json.loads(body), bytes.fromhex(signature)
            identifier, event, at = facts["id"], facts["event"], parse_time(facts["ts"])
            commits = facts["commit"]
            if end or canonical(facts) != body.encode():
                raise ValueError("another spelling")
        except UNFIT:
            bad("entry_malformed", "The entry is none that a log of this kind holds.", index=index)
            return {}
        where = {"index": index, "record": identifier, "event": event}
        key = self.keys.get(kid)
        if key is None:
            bad("key_unknown", "The record is signed with a key that was never enrolled: it was forged.", **where)
        else:
            try:
                key.verify(raw, b"audit-event/v1\n" + body.encode())
            except InvalidSignature:
                bad("signature_wrong", "The record's signature is wrong.", **where)
        if index >= self.ends.get(kid, 1 << 62):
            bad("key_ended", "The record is signed with a key that ended at index %d." % self.ends[kid], **where)
        if identifier in self.places:
            bad("record_repeated", "The record stands in the log more than once.", **where)
        if prev != "-" and prev not in self.places and not self.partial:
            bad("chain_turned", "The record it followed, %s, does not stand before it." % prev, **where)
        self.places[identifier], self.commits[identifier] = index, commits
        self.time(at, where)
        return {
            "index": index,
            "kid": kid,
            "signature": signature,
            "prev": None if prev == "-" else prev,
            "body": facts,
        }

    def time(self, at: datetime, where: dict) -> None:
        if self.beat is not None and at < self.beat - BACKDATED:
            self.report.bad("backdated", "The record's time lies long before the heartbeat ahead of it.", **where)
        if where["event"] != "log.heartbeat":
            if self.latest is None or at > self.latest[0]:
                self.latest = (at, where)
            return
        if self.latest is not None and self.latest[0] > at + POSTDATED:
            self.report.bad("postdated", "The record's time lies long after the heartbeat behind it.", **self.latest[1])
        self.beat, self.latest = at, None

    def payloads(self, text: str) -> int:
        """Values against the commitments in their records."""
        seen = set()
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                one = json.loads(line)
                identifier, slot, salt = one["record"], one["slot"], one["salt"]
                said = self.commits.get(identifier, {}).get(slot)
                pair = b"" if salt is None else b"[" + canonical(slot) + b"," + one["value"].encode() + b"]"
                salted = b"audit-commitment/v1\n" + (b"" if salt is None else unbase64(salt, 32)) + pair
            except UNFIT + (Bad,):
                self.report.bad("payload_malformed", "Line %d of the payloads is malformed." % number)
                continue
            seen.add((identifier, slot))
            if said is None:
                self.report.bad("payload_added", "No record committed to the payload %s." % slot, record=identifier)
            elif salt is None and (identifier, slot) not in self.erased and not self.partial:
                self.report.bad("payload_erased_silently", "%s was erased without a record." % slot, record=identifier)
            elif salt is not None and base64.b64encode(hashlib.sha256(salted).digest()).decode() != said:
                self.report.bad("payload_differs", "The payload %s is not the recorded one." % slot, record=identifier)
        away = 0
        for identifier, commits in self.commits.items():
            for slot in commits:
                if (identifier, slot) in seen:
                    continue
                if any(lower <= identifier < upper for lower, upper in self.archived):
                    away += 1
                else:
                    self.report.bad("payload_gone", "The payload %s is missing." % slot, record=identifier)
        if away:
            self.report.checked("NOTE: %d payloads are in archives of the server, by records of that" % away)
        return len(seen)


def parse_time(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text):
        raise ValueError(text)
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)


# ---------------------------------------------------------------- commands


def trusted(report: Report, arguments: argparse.Namespace, beside: Path) -> list[Key]:
    """The keys of --vkey, or the one that lies beside the files."""
    given = [Key(vkey) for vkey in arguments.vkey]
    if given:
        report.checked("the checkpoint key is the one that you gave")
        return given
    path = beside / "checkpoint.vkey"
    if not path.is_file():
        raise Bad("give the log's public key with --vkey: there is none beside the files")
    report.checked(
        "NOTE: the checkpoint key comes from %s; compare it with the one that you know, or give --vkey" % path
    )
    return [Key(path.read_text(encoding="utf-8").strip())]


def read_policy(arguments: argparse.Namespace, beside: Path) -> Policy | None:
    path = arguments.policy or beside / "policy"
    if arguments.policy is None and not path.is_file():
        return None
    return Policy(path.read_text(encoding="utf-8"))


def read_note(path: Path) -> Note:
    return Note(path.read_bytes().decode())


def do_export(report: Report, arguments: argparse.Namespace) -> None:
    """Keys, then every entry, its place under every checkpoint, and the copies beside it."""
    folder = arguments.what[0]
    pinned = trusted(report, arguments, folder)
    note = read_note(folder / "checkpoint")
    _, size, _ = note.checkpoint()
    endorsers = {bytes.fromhex(line) for line in (folder / "enrolment.keys").read_text().split()}
    records = Records(report, endorsers)
    try:
        for index, (entry, _) in enumerate(entries(folder, size)):
            records.first(index, entry)
        ring = Ring(pinned, records.statements, report, arguments.accept_restart)
        for index, vkey in records.opened:
            if vkey not in ring.keys:
                report.bad("log_foreign", "The log was opened with another checkpoint key, %s." % vkey, index=index)
        claims, judged = read_claims(report, folder, ring, note)
        walk(report, folder, size, records, claims)
        check_upper_tiles(report, folder, size)
    except Bad as error:
        report.bad("files_damaged", "The log's files do not fit together: %s." % error)
        return
    report.checked("%d entries and %d checkpoints, signed over %d records" % (len(records.commits), len(claims), size))
    beyond = [where for there, said in claims.items() if there > size for where in said.values()]
    if beyond:
        report.bad("log_cut", "%s was signed over more records than the folder holds." % beyond[0])
    if (folder / "payloads.jsonl").is_file():
        report.checked(
            "%d payloads against their commitments" % records.payloads((folder / "payloads.jsonl").read_text())
        )
    policy = read_policy(arguments, folder)
    if policy is not None:
        check_log_quorum(report, policy, judged, size, records.beat)
    if arguments.max_age is not None:
        age = datetime.now(timezone.utc) - (records.beat or datetime.min.replace(tzinfo=timezone.utc))
        if age > timedelta(minutes=arguments.max_age):
            report.bad("no_heartbeat", "The last heartbeat is older than %d minutes." % arguments.max_age, stale=True)


def read_claims(report: Report, folder: Path, ring: Ring, note: Note) -> tuple[dict[int, dict[bytes, str]], list[Note]]:
    """size -> {root: where it was said}, and the notes that say so"""
    claims: dict[int, dict[bytes, str]] = {}
    judged = []
    found = [("checkpoint", note)]
    for name in ("checkpoints.jsonl", "cosigned.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines() if (folder / name).is_file() else []
        for number, line in enumerate(lines, start=1):
            where = "line %d of %s" % (number, name)
            try:
                found.append((where, Note(json.loads(line)["note"])))
            except UNFIT + (Bad,):
                report.bad("published_invalid", "%s is malformed." % where)
    for where, one in found:
        why = ring.judge(one)
        if why and why != "void":
            report.bad("checkpoint_invalid", "%s %s." % (where, why))
        elif not why:
            _, size, said = one.checkpoint()
            claims.setdefault(size, {}).setdefault(said, where)
            judged.append(one)
    return claims, judged


def walk(report: Report, folder: Path, size: int, records: Records, claims: dict[int, dict[bytes, str]]) -> None:
    """Every entry once more, in order: its hash, its signature, the root at each signed size, its line."""
    tree, good, told = Tree(), 0, False
    path = folder / "records.jsonl"
    lines = path.open(encoding="utf-8") if path.is_file() else None
    for index, (entry, tile_hash) in enumerate(entries(folder, size)):
        value = leaf_hash(entry)
        if value != tile_hash:
            report.bad("leaf_differs", "The entry and its tile disagree.", index=index)
        tree.append(value)
        for said, where in claims.get(tree.size, {}).items():
            if said == tree.root():
                good = tree.size
            elif not told:
                told = True
                report.bad(
                    "root_differs",
                    "Entries %d to %d are not those that were signed: %s has another root." % (good, index, where),
                    index=good,
                )
        facts = records.read(index, entry)
        if lines is not None:
            try:
                same = json.loads(lines.readline()) == facts
            except ValueError:
                same = False
            if not same:
                report.bad("line_differs", "Line %d of records.jsonl is not the entry." % (index + 1), index=index)
    if lines is not None:
        if lines.readline():
            report.bad("line_differs", "records.jsonl has lines that the log does not hold.", index=size)
        lines.close()


def do_proof(report: Report, arguments: argparse.Namespace) -> None:
    """C2SP tlog-proof files with their entries."""
    for path in arguments.what:
        keys, policy = trusted(report, arguments, path.parent), read_policy(arguments, path.parent)
        try:
            head, blank, raw = path.read_bytes().decode().partition("\n\n")
            lines = head.split("\n")
            if lines.pop(0) != "c2sp.org/tlog-proof@v1" or not blank:
                raise Bad("it is no tlog-proof")
            if lines and lines[0].startswith("extra "):
                lines.pop(0)
            match = re.fullmatch(r"index (0|[1-9][0-9]{0,18})", lines.pop(0)) if lines else None
            if match is None:
                raise Bad("it names no index")
            note = Note(raw)
            signed = note.signed_by(keys)
            origin, size, root = note.checkpoint()
            if not any(key.name == origin for key, _ in signed):
                raise Bad("its checkpoint is not signed by this log's key")
            entry = path.with_name(path.name[: -len(".tlog-proof")] + ".entry").read_bytes()
            check_inclusion(leaf_hash(entry), int(match.group(1)), size, [unbase64(line, 32) for line in lines], root)
            facts = json.loads(entry.decode().split("\n")[0])
            identifier = facts["id"]
        except (Bad, UnicodeDecodeError) + UNFIT as error:
            report.bad("proof_invalid", "%s: %s." % (path.name, error))
            continue
        report.checked(
            "%s: record %s (%s at %s) stands at index %s of %d in %s"
            % (path.name, identifier, facts["event"], facts["ts"], match.group(1), size, origin)
        )
        if policy is not None:
            check_quorum(report, policy, note)


def do_consistency(report: Report, arguments: argparse.Namespace) -> None:
    """What audit_consistency wrote: {"old": note, "new": note, "proof": [base64, …], "statements": [[index, note], …]}."""
    path = arguments.what[0]
    keys = trusted(report, arguments, path.parent)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        ring = Ring(keys, [(index, raw) for index, raw in data["statements"]], report, arguments.accept_restart)
        notes = [Note(data["old"]), Note(data["new"])]
        for note in notes:
            why = ring.judge(note)
            if why:
                raise Bad("a checkpoint %s" % why)
        (_, old_size, old_root), (_, new_size, new_root) = (note.checkpoint() for note in notes)
        check_consistency(old_size, new_size, old_root, new_root, [unbase64(line, 32) for line in data["proof"]])
    except (Bad,) + UNFIT as error:
        report.bad("not_consistent", "%s." % error)
        return
    report.checked("the log of %d records continues the log of %d" % (new_size, old_size))


def do_bundle(report: Report, arguments: argparse.Namespace) -> None:
    """The records of one job: each by its proof, its signature and the enrolment of the key that made it."""
    path = arguments.what[0]
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    pinned = [Key(vkey) for vkey in arguments.vkey]
    if not pinned:
        report.checked("NOTE: the checkpoint key comes from the bundle; compare log.vkey with the one that you know")
        pinned = [Key(files["log.vkey"].strip())]
    try:
        note = Note(files["checkpoint"])
        origin, size, root = note.checkpoint()
        if not any(key.name == origin for key, _ in note.signed_by(pinned)):
            raise Bad("the checkpoint is not signed by this log's key")
    except Bad as error:
        report.bad("checkpoint_invalid", "%s." % error)
        return
    lines = {name: [json.loads(line) for line in files[name].splitlines()] for name in ("keys.jsonl", "records.jsonl")}
    endorsers = read_endorsers(report, arguments, lines["keys.jsonl"])
    records, about = Records(report, endorsers), json.loads(files["bundle.json"])
    for name in ("keys.jsonl", "records.jsonl"):
        for line in lines[name]:
            index, entry = line["index"], line["entry"].encode()
            try:
                check_inclusion(leaf_hash(entry), index, size, [unbase64(one, 32) for one in line["proof"]], root)
            except Bad as error:
                report.bad(
                    "proof_invalid", "A record of %s does not stand in the log: %s." % (name, error), index=index
                )
            records.first(index, entry)
    records.partial = True
    for line in lines["records.jsonl"]:
        records.read(line["index"], line["entry"].encode())
    indexes = [line["index"] for line in lines["records.jsonl"]]
    if indexes != about["indexes"] or indexes != sorted(set(indexes)):
        report.bad("bundle_differs", "The bundle does not hold the records that it lists.")
    report.checked("%d records of the job %s stand in %s, signed over %d" % (len(indexes), about["job"], origin, size))
    if about.get("unsigned"):
        report.checked("NOTE: %d newer records of the job were not signed yet" % about["unsigned"])
    report.checked("%d payloads against their commitments" % records.payloads(files["payloads.jsonl"]))
    if arguments.policy is not None:
        check_quorum(report, Policy(arguments.policy.read_text(encoding="utf-8")), note)


def read_endorsers(report: Report, arguments: argparse.Namespace, keys: list[dict]) -> set[bytes]:
    """Who may endorse writers: --enrolment, else whoever the bundle says, and that is said."""
    if arguments.enrolment is not None:
        return {bytes.fromhex(line) for line in arguments.enrolment.read_text().split()}
    named = {json.loads(line["entry"].split("\n")[0])["context"]["enrolment_key"] for line in keys}
    for one in sorted(named):
        report.checked("NOTE: writers were endorsed by %s; give --enrolment to check that" % unbase64(one, 32).hex())
    return {unbase64(one, 32) for one in named}


def do_compare(report: Report, arguments: argparse.Namespace) -> None:
    """Two checkpoints, without the log: only a fork at one size can be seen."""
    keys = trusted(report, arguments, arguments.what[0].parent)
    seen: dict[tuple[str, int], bytes] = {}
    for path in arguments.what:
        try:
            note = read_note(path)
            origin, size, root = note.checkpoint()
            if not note.signed_by(keys):
                raise Bad("it is not signed by this log's key")
        except (Bad, UnicodeDecodeError) as error:
            report.bad("checkpoint_invalid", "%s: %s." % (path, error))
            continue
        report.checked("%s: %s, %d records, root %s" % (path, origin, size, base64.b64encode(root).decode()))
        if seen.setdefault((origin, size), root) != root:
            report.bad(
                "split_view", "Two roots for %d records of %s, both signed: two views of one log." % (size, origin)
            )


def do_note(report: Report, arguments: argparse.Namespace) -> None:
    do_compare(report, arguments)
    policy = read_policy(arguments, arguments.what[0].parent)
    if policy is not None and report.code == WHOLE:
        check_quorum(report, policy, read_note(arguments.what[0]))


COMMANDS = {
    "export": (do_export, 1),
    "proof": (do_proof, 0),
    "bundle": (do_bundle, 1),
    "consistency": (do_consistency, 1),
    "compare": (do_compare, 2),
    "note": (do_note, 1),
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("what", nargs="+", type=Path)
    parser.add_argument("--vkey", action="append", default=[], help="the log's public key, as you wrote it down")
    parser.add_argument(
        "--policy", type=Path, help="a C2SP tlog-policy file: the witnesses you trust, and how many must sign"
    )
    parser.add_argument(
        "--enrolment", type=Path, metavar="FILE", help="the keys that may endorse writers (enrolment.keys)"
    )
    parser.add_argument("--accept-restart", type=int, action="append", default=[], metavar="SIZE")
    parser.add_argument("--max-age", type=int, metavar="MINUTES", help="exit code 3 where the last heartbeat is older")
    parser.add_argument("--json", action="store_true", help="findings as JSON lines, nothing else")
    arguments = parser.parse_args(argv)
    run, count = COMMANDS[arguments.command]
    if count and len(arguments.what) != count:
        parser.error("%s takes %d path(s)" % (arguments.command, count))
    report = Report()
    try:
        run(report, arguments)
    except (Bad, OSError, UnicodeDecodeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print("The check could not run: %s" % error, file=sys.stderr)
        return CANNOT
    if arguments.json:
        for finding in report.findings:
            print(json.dumps(finding, ensure_ascii=False))
        return report.code
    for line in report.done:
        print("checked: %s" % line)
    for finding in report.findings:
        place = ", ".join("%s %s" % (name, finding[name]) for name in ("record", "index", "event") if name in finding)
        print("%s: %s%s" % (finding["code"].upper(), place and place + ": ", finding["message"]))
    print({WHOLE: "WHOLE", TAMPERED: "TAMPERED", STALE: "STALE, OR A QUORUM IS MISSING"}[report.code])
    return report.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
