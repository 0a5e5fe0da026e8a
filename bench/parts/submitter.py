"""A process that submits jobs: reads how many from each line of its standard input, and answers when it is done."""

import sys
from datetime import UTC, datetime

import django


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User

    from bench.parts.steps import plan, submit

    owner, wanted = User.objects.get(username="bench"), plan(1)
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            submit(wanted, user=owner, now=datetime.now(UTC))
        print("done", flush=True)


if __name__ == "__main__":
    main()
