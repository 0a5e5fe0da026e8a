"""What each tier holds, as a table for the documentation: `python -m tests.integration.tools.attacks.table`, as root.

Runs every attack in every tier that works here, as commands of a server that is root (which drop to a user of their own)
and as those of a server that is an ordinary user, and prints Markdown. Fails where something gets out that no one told of.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.tools import trial
from tests.integration.tools.attacks import ATTACKS, PROMISES
from tests.integration.tools.attacks.common import PROMISE_OF
from tests.integration.tools.attacks.gaps import gap

TIERS = ("bwrap", "ns", "ll")
USERS = {"root": {}, "unprivileged": {"user": 65534, "group": 65534, "extra_groups": []}}
BOUNDED = PROMISES[-1]


def came_of(user: str, tier: str, base: Path, *more: str) -> dict:
    python = sys.executable if user == "root" else "/usr/bin/python3"
    argv = [python, "-B", str(Path(trial.__file__)), tier, str(base), *more]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", env={"SECRET": "SECRET"}, **USERS[user])
    if done.returncode:
        raise SystemExit(f"{user} {tier}: {done.stderr}")
    return json.loads(done.stdout)


def broke(result: dict) -> bool:
    """Did anything but the attack's own tries come of it?"""
    held = result["through"] and result["clean"] and result["victim_lives"]
    return not held or bool(result["left"] or result["arrived"])


def cell(attack: str, tier: str, results: dict[tuple[str, str], dict]) -> str:
    let_out = []
    for user in USERS:
        result = results[user, tier][attack]
        if broke(result):
            raise SystemExit(f"{attack} {tier} {user}: {result}")
        if result["escaped"] or result["changed"]:
            told = gap(attack, tier, own_user=user == "root")
            if not told:
                raise SystemExit(f"{attack} {tier} {user}: {result}")
            let_out.append((user, told))
    if not let_out:
        return "holds"
    what = let_out[0][1]
    return f"does not hold: {what}" if len(let_out) == len(USERS) else f"{let_out[0][0]} only: {what}"


def rows() -> list[str]:
    base = Path(tempfile.mkdtemp(prefix="countersign-attacks-", dir="/var/tmp"))
    base.chmod(0o777)
    try:
        results = {(user, tier): came_of(user, tier, base) for user in USERS for tier in TIERS}
        bounds = {(user, tier): came_of(user, tier, base, "bounds") for user in USERS for tier in TIERS}
    finally:
        shutil.rmtree(base, ignore_errors=True)
    made = [f"| promise | attack | {' | '.join(TIERS)} |", "|---|---|" + "---|" * len(TIERS)]
    for promise in PROMISES[:-1]:
        for attack in sorted(name for name in ATTACKS if PROMISE_OF[name] == promise):
            cells = [cell(attack, tier, results) for tier in TIERS]
            made.append(f"| {promise} | {attack.replace('_', ' ')} | {' | '.join(cells)} |")
    for bound in bounds["root", "ns"]:
        faults = [bounds[user, tier][bound] for tier in TIERS for user in USERS]
        if any(faults):
            raise SystemExit(f"{bound}: {faults}")
        made.append(f"| {BOUNDED} | {bound} |{' holds |' * len(TIERS)}")
    return made


if __name__ == "__main__":
    print("\n".join(rows()))
