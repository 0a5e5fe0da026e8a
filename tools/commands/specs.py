"""What is known of programs: their options, operands and sub-commands, from the data files in `data/`.

A specification is positive: what does not stand in it is not understood, and asks. One TOML table a program:

    risk = "high: why"         of every use; "low" where nothing is said
    flags = "abc"              one-letter options without a value
    long = "all color? depth?" long options without a value; `?`: with `=VALUE` too
    style = "single"           Go's way (`-name`); "literal": every word is text; "find", "test": of their own
    operands = "text read*"    roles, in order; `*`: any number, `?`: may be missing
    [NAME.options]             "o output" = "write": names and the kind of the value that follows;
                               "i in-place" = "text?": only attached; "f force" = "flag; high: why": with a risk
    [NAME.with]                "e f regexp" = "read*": other operands where one of the options is there
    [NAME.modes]               "x extract" = "extract": the option chooses the sub-command
    [NAME.sub.SUB]             a sub-command, of the same form

Kinds and roles: see `tools.commands.reading`.
"""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tools.spec import Risk

DATA = Path(__file__).with_name("data")
KINDS = frozenset(
    {
        "flag", "text", "read", "write", "delete", "list", "host", "program", "shell", "command", "code", "script",
        "module", "chdir", "assign", "sed", "awk", "jq", "env", "target", "pair", "pair-read", "ref", "format", "suffix",
    }
)  # fmt: skip
STYLES = frozenset({"gnu", "single", "literal", "test", "find"})
_FIELDS = frozenset(
    {
        "style", "risk", "flags", "long", "operands", "options", "with", "modes", "sub", "permutes", "shared", "code",
        "pure", "digits", "dashless", "runs", "writes", "like", "about", "bare", "more", "test", "helpers",
    }
)  # fmt: skip


class BadSpecification(Exception):
    """A data file says what cannot be meant; the message names program and field."""


@dataclass(frozen=True, slots=True)
class Option:
    """kind: of its value, "flag" where it takes none; optional: the value stands in the same word or not at all."""

    kind: str
    optional: bool = False
    risk: Risk = Risk.LOW
    why: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """kind: what the operand is; many: any number of them; optional: there may be none."""

    kind: str
    many: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program, or sub-command.

    permutes: options may follow operands; code: it runs code that its words do not show; test: that is the project's own
    checks; pure: no option, listed or not, makes it write, run or connect; digits: `-20` is an option; dashless: the
    first word may be options without a dash; runs: files of the working folder that it runs by itself; writes: what it
    writes by itself; about: options with which it only tells of itself; bare: the risk of a use without operands; more:
    the command that it runs gets further words, which nobody can tell; helpers: programs of the system that it runs by
    itself, with words of its own.
    """

    name: str
    style: str = "gnu"
    risk: Risk = Risk.LOW
    why: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    operands: tuple[Role, ...] = ()
    operands_with: tuple[tuple[frozenset[str], tuple[Role, ...]], ...] = ()
    modes: Mapping[str, str] = field(default_factory=dict)
    subs: Mapping[str, "Program"] = field(default_factory=dict)
    permutes: bool = True
    code: bool = False
    test: bool = False
    pure: bool = False
    digits: bool = False
    dashless: bool = False
    runs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    about: frozenset[str] = frozenset()
    bare: str = ""
    more: bool = False
    helpers: frozenset[str] = frozenset()


@functools.cache
def programs() -> Mapping[str, Program]:
    """Every program that is known, by name.

    Raises:
        BadSpecification: a data file is at fault.
    """
    found: dict[str, Program] = {}
    raw: dict[str, Mapping[str, Any]] = {}
    for path in sorted(DATA.glob("*.toml")):
        for name, given in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in raw:
                raise BadSpecification(f"{name} stands in two files")
            raw[name] = given
    for name, given in raw.items():
        base = raw[given["like"]] if "like" in given else {}
        found[name] = _program(name, {**base, **given}, {})
    return MappingProxyType(found)


def known(name: str) -> Program | None:
    """The specification of a program by its bare name."""
    return programs().get(name)


def _program(name: str, given: Mapping[str, Any], inherited: Mapping[str, Option]) -> Program:
    if wrong := set(given) - _FIELDS:
        raise BadSpecification(f"{name} has {', '.join(sorted(wrong))}")
    style = given.get("style", "gnu")
    if style not in STYLES:
        raise BadSpecification(f"{name}: there is no style {style}")
    single = style in ("single", "find")
    options = {**inherited, **_options(name, given, single=single)}
    options |= {_dashed(one, single=single): Option("flag") for one in given.get("about", "").split()}
    shared = options if given.get("shared") else {}
    risk, why = _risk(name, given.get("risk", "low"))
    return Program(
        name=name,
        style=style,
        risk=risk,
        why=why,
        options=MappingProxyType(options),
        operands=_roles(name, given.get("operands", "")),
        operands_with=tuple(
            (frozenset(_dashed(one, single=style == "single") for one in names.split()), _roles(name, roles))
            for names, roles in given.get("with", {}).items()
        ),
        modes={_dashed(one, single=False): mode for names, mode in given.get("modes", {}).items() for one in names.split()},
        subs={
            one: _program(name if given.get("modes") else f"{name} {one}", body, shared)
            for names, body in given.get("sub", {}).items()
            for one in names.split()
        },
        permutes=given.get("permutes", True),
        code=given.get("code", False) or given.get("test", False),
        test=given.get("test", False),
        pure=given.get("pure", False),
        digits=given.get("digits", False),
        dashless=given.get("dashless", False),
        runs=tuple(given.get("runs", "").split()),
        writes=tuple(given.get("writes", "").split()),
        about=frozenset(_dashed(one, single=style == "single") for one in given.get("about", "").split()),
        bare=given.get("bare", ""),
        more=given.get("more", False),
        helpers=frozenset(given.get("helpers", "").split()),
    )  # fmt: skip


def _options(name: str, given: Mapping[str, Any], *, single: bool) -> dict[str, Option]:
    found = {f"-{letter}": Option("flag") for letter in given.get("flags", "")}
    for word in given.get("long", "").split():
        found[_dashed(word.rstrip("?"), single=single)] = Option("text" if word[-1] == "?" else "flag", word[-1] == "?")
    for names, body in given.get("options", {}).items():
        kind, _, rated = body.partition(";")
        kind = kind.strip()
        risk, why = _risk(name, rated.strip() or "low")
        if kind.rstrip("?") not in KINDS:
            raise BadSpecification(f"{name}: there is no kind {kind}")
        for one in names.split():
            found[_dashed(one, single=single)] = Option(kind.rstrip("?"), kind.endswith("?"), risk, why)
    return found


def _dashed(name: str, *, single: bool) -> str:
    return f"-{name}" if single or len(name) == 1 else f"--{name}"


def _roles(name: str, text: str) -> tuple[Role, ...]:
    roles: Sequence[Role] = [
        Role(word.rstrip("*?"), many=word.endswith("*"), optional=word[-1] in "*?") for word in text.split()
    ]
    if sum(role.many for role in roles) > 1 or any(role.kind not in KINDS for role in roles):
        raise BadSpecification(f"{name}: the operands {text!r}")
    return tuple(roles)


def _risk(name: str, text: str) -> tuple[Risk, str]:
    level, _, why = text.partition(":")
    if level not in ("low", "medium", "high") or (level == "high" and not why):
        raise BadSpecification(f"{name}: the risk {text!r}")
    return Risk(level), why.strip()
