"""Every option of every specification, really run: `python -m tests.fuzz.specifications [--seed N] [--every N]
[--from PROGRAM]`.

For each program that is installed here, each listed option is used once with a likely value and operands. What would
run unasked runs in the sandbox under a tracer, and what did more than was judged is printed. Takes some minutes.
"""

import argparse
import os
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

VALUES = {"read": "old.txt", "list": "old.txt", "write": "made", "delete": "old.txt", "chdir": "src", "sed": "p", "awk": "1",
          "jq": ".", "script": "src/app.py", "shell": "ls", "env": "CI=1", "command": "ls", "target": "all"}  # fmt: skip
TEXTS = ("1", "x", "2", "made")
BATCH = 20


SLOW = ("yes", "sleep", "watch", "locale")


def lines(seed: int, first: str) -> Iterator[str]:
    from tools.commands import programs
    from tools.commands.specs import Program

    chance = random.Random(seed)

    def of(words: list[str], program: Program) -> Iterator[str]:
        operands = [VALUES.get(role.kind, chance.choice(TEXTS)) for role in program.operands]
        yield shlex.join([*words, *operands])
        for name, option in program.options.items():
            value = VALUES.get(option.kind, chance.choice(TEXTS))
            if option.kind == "flag" or (option.optional and chance.random() < 0.5):
                given = [name]
            elif option.optional or chance.random() < 0.5:
                given = [f"{name}={value}" if name.startswith("--") else f"{name}{value}"]
            else:
                given = [name, value]
            yield shlex.join([*words, *given, *operands])
            yield shlex.join([*words, *operands, *given])
        for name, sub in program.subs.items():
            if not program.modes:
                yield from of([*words, name], sub)

    names = list(programs())
    for name in names[names.index(first) if first else 0 :]:
        program = programs()[name]
        if name not in SLOW and shutil.which(name, path="/usr/local/bin:/usr/bin:/bin"):
            yield from of([name], program)


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--every", type=int, default=1, help="take every Nth line")
    given.add_argument("--from", dest="first", default="", help="begin with this program")
    wanted = given.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    import django

    django.setup()
    from tests.integration.tools.test_command_oracle import unasked, watched

    todo = list(dict.fromkeys(line for line in lines(wanted.seed, wanted.first) if unasked(line)))[:: wanted.every]
    print(f"{len(todo)} lines", flush=True)
    found = 0
    for start in range(0, len(todo), BATCH):
        place = Path(tempfile.mkdtemp(prefix="countersign-oracle-", dir="/var/tmp"))
        place.chmod(0o755)
        try:
            for line, beyond in watched(place, todo[start : start + BATCH]):
                found += 1
                print(f"{line}\n    {'; '.join(dict.fromkeys(beyond))[:400]}", flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    print(f"{found} did more than was judged")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
