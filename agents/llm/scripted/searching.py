"""The candidates of a search: ways to find primes, each better than the one before, for the shipped example. Of any
other file the stand-in knows nothing better."""

import re
from typing import Any

from agents.llm.scripted.look import WHO

# From slow to fast; the first is what the example begins with.
LADDER: tuple[tuple[str, str], ...] = (
    ("", "        if divisors == 2:\n"),
    (
        "Stop at the first divisor.",
        "    found = []\n    for n in range(2, below):\n        for d in range(2, n):\n            if n % d == 0:\n"
        "                break\n        else:\n            found.append(n)\n    return found\n",
    ),
    (
        "A divisor above the root has a partner below it: stop at the root.",
        "    return [n for n in range(2, below) if all(n % d for d in range(2, int(n**0.5) + 1))]\n",
    ),
    (
        "Divide by primes alone.",
        "    found = []\n    for n in range(2, below):\n        if all(n % p for p in found if p * p <= n):\n"
        "            found.append(n)\n    return found\n",
    ),
    (
        "Strike out multiples instead of dividing: the sieve.",
        "    sieve = [True] * max(below, 2)\n    for n in range(2, int(below**0.5) + 1):\n        if sieve[n]:\n"
        "            sieve[n * n :: n] = [False] * len(sieve[n * n :: n])\n"
        "    return [n for n in range(2, below) if sieve[n]]\n",
    ),
)
WRONG = ("Leave out the even numbers.", "    return [n for n in range(2, below) if n == 2 or n % 2]\n")
_HEAD = 'def primes(below):\n    """The prime numbers below a bound, in order."""\n'
_FILE = re.compile(r"(?ms)^--- (\S+)\n(.*?)(?=^--- \S+$|^</(?:files|other)>$)")
_NUMBER = re.compile(r"you are number (\d+)")


def asked(names: set[str]) -> bool:
    """By the properties of the answer's schema."""
    return names == {"idea", "files"}


def candidate(question: str) -> dict[str, Any]:
    """The next rung for the first of those that are asked at once; a wrong one for the second; two rungs for the rest."""
    files = _FILE.findall(question)
    path, text = files[0] if files else ("scripted.txt", "")
    if "def primes(" not in text:
        return {"idea": f"{WHO} It knows nothing better.", "files": [{"path": path, "text": f"{text}\n"}]}
    found = _NUMBER.search(question)
    number = int(found[1]) if found else 1
    best = max(_rung(one) for _, one in files)
    if number == 2 and "Join what makes" not in question:
        idea, body = WRONG
    else:
        idea, body = LADDER[min(best + (1 if number == 1 else 2), len(LADDER) - 1)]
    again = "" if (_HEAD + body).strip() != text.strip() else f"{' ' * 4}# {number}\n"
    return {"idea": idea, "files": [{"path": path, "text": _HEAD + again + body}]}


def _rung(text: str) -> int:
    return max((place for place, (_, body) in enumerate(LADDER) if body in text), default=0)
