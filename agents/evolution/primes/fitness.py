"""Is `primes` right, and how many lines of Python does it run? Counted, not timed: the same on every machine."""

import sys

from primes import primes

RIGHT = {0: [], 2: [], 3: [2], 30: [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]}
BOUND = 400


def main() -> int:
    for below, wanted in RIGHT.items():
        found = primes(below)
        if found != wanted:
            print(f"primes({below}) is wrong: {found}")
            return 1
    if "--constant" in sys.argv:
        print(1)
        return 0
    count = 0

    def line(frame, event, argument):
        nonlocal count
        count += event == "line"
        return line

    sys.settrace(line)
    found = primes(BOUND)
    sys.settrace(None)
    if len(found) != 78:
        print(f"There are 78 primes below {BOUND}, not {len(found)}.")
        return 1
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
