"""What a command does, as far as its words tell: a risk with reasons, and what it reads, writes, runs and speaks to.

Kinds of words, in specifications:

    text     nothing follows from it              read     a path that it reads
    write    a path that it makes or changes      delete   a path that it removes
    list     a file that names files to read      chdir    the folder that it works in
    host     another system that it speaks to     program  a program that it runs
    shell    text for a shell                     code     text for an interpreter
    command  a program and its words              env      NAME=VALUE words, then a command
    assign   one NAME=VALUE                       script   a file that it runs, or that says what is run
    module   a Python module and its words        sed, awk, jq   a program in that language
    target   what a build tool is to make         pair, pair-read   a name, then text or a path
    ref      a commit or a path, for git          format   how `date` is to print
    suffix   what copies of files end with
"""

import os
import posixpath
from collections.abc import Sequence

from tools.builtin import script
from tools.commands import languages
from tools.commands.finding import find
from tools.commands.notes import Notes, Reading
from tools.commands.specs import Program, known
from tools.commands.words import NotUnderstood, Split, roles, split
from tools.spec import Risk

DEPTH_MAX = 6
_PLACES_MAX = 16  # folders that a script may be in
_SYSTEM = ("/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/")
_NOWHERE = frozenset({"-", "/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", ""})
_HIDES = "runs text that stands in its arguments or its input"
# What a command may be told by its environment; names that load or run code are not among them.
HARMLESS_NAMES = frozenset(
    {
        "CI", "COLUMNS", "DEBUG", "FORCE_COLOR", "LINES", "LOG_LEVEL", "NODE_ENV", "NO_COLOR", "RAILS_ENV",
        "RUST_BACKTRACE", "TZ", "VERBOSE", "CARGO_TERM_COLOR", "CGO_ENABLED", "DJANGO_SETTINGS_MODULE", "FLASK_ENV",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "SOURCE_DATE_EPOCH", "LANG", "LC_ALL", "GOOS", "GOARCH",
    }
)  # fmt: skip
# Python modules that are the programs of these names; every other may be the workspace's own.
_MODULES = frozenset(
    {
        "bandit", "black", "compileall", "coverage", "doctest", "ensurepip", "flake8", "http.server", "isort", "json.tool",
        "mypy", "pip", "pylint", "pyright", "pytest", "ruff", "tox", "unittest", "venv", "virtualenv",
    }
)  # fmt: skip
HARMLESS_PREFIXES = ("APP_", "TEST_")


def read(commands: Sequence[Sequence[str]], cwd: str = ".") -> Reading:
    """Of commands that run one after the other, the first in the folder `cwd` of the work tree; every one counts."""
    notes = Notes(places=(posixpath.normpath(cwd),))
    for argv in commands:
        command(notes, argv)
    return notes.told()


def opaque(why: str) -> Reading:
    """Of a script that cannot be read."""
    return Reading(
        risk=Risk.HIGH, reasons=(f"the script cannot be judged: {why}",), programs=None, code=True, known=False
    )


def command(notes: Notes, argv: Sequence[str]) -> None:
    """Adds one command."""
    path, name = argv[0], posixpath.basename(argv[0])
    notes.programs += [path] if path == name else [path, name]
    if notes.depth > DEPTH_MAX:
        notes.known, notes.opaque = False, True
        notes.say(Risk.HIGH, "it runs commands that run commands, too deep to be judged")
        return
    if path != name and not (path.startswith(_SYSTEM) and ".." not in path):
        _run_file(notes, path)
        return
    program = known(name)
    if program is None:
        notes.known = False
        notes.say(Risk.HIGH, f"{path} is not a program that is known here")
        _run_somehow(notes, argv)
        return
    places = notes.places
    try:
        _use(notes, program, list(argv[1:]))
    except NotUnderstood as what:
        notes.known, notes.unlisted = False, True
        notes.say(program.risk, f"{name} {program.why}") if program.why else None
        notes.say(Risk.HIGH, f"{name} with {what} is not understood")
        if _runs_others(program):
            _run_somehow(notes, argv)
    if name == "cd":
        _went(notes, places)
    else:
        notes.places = places


def _use(notes: Notes, program: Program, words: list[str]) -> None:
    name = program.name
    if program.style == "literal":
        _literal(program, words)
        notes.say(program.risk, f"{name} {program.why}" if program.why else f"{name} only reads")
        return
    if program.style == "test":
        _tested(program, words)
        notes.say(Risk.LOW, f"{name} only reads")
        return
    if words in (["--help"], ["--version"]) and not (program.more or program.code):
        notes.say(Risk.LOW, f"asks {name} about itself")
        return
    if program.style == "find":
        find(notes, program, words, effect=effect, command=command)
        return
    if program.modes:
        chosen, _ = split(program, words)
        modes = {program.modes[given] for given in chosen.names if given in program.modes}
        if len(modes) > 1 or not (modes or program.operands):
            raise NotUnderstood("what it is to do")
        program = program.subs[modes.pop()] if modes else program
    elif program.subs:
        program, words = _sub(notes, program, words)
    _plain(notes, program, words)


def _sub(notes: Notes, program: Program, words: list[str]) -> tuple[Program, list[str]]:
    """The sub-command and its words; the program's own options are noted on the way."""
    while program.subs:
        before, taken = split(program, words, until_operand=True)
        rest = words[taken:]
        if not rest or rest[0] not in program.subs:
            if rest and not program.operands:
                raise NotUnderstood(f"the sub-command {rest[0][:40]}")
            return program, words
        _options(notes, program, before)
        if program.about & before.names:
            return program, words
        program, words = program.subs[rest[0]], rest[1:]
    return program, words


def _plain(notes: Notes, program: Program, words: list[str]) -> None:
    given, _ = split(program, words)
    if program.about & given.names:
        notes.say(Risk.LOW, f"asks {program.name} about itself")
        return
    if program.name == "cd" and not given.operands:
        raise NotUnderstood("no folder")
    operands = list(roles(program, given.operands, given.names))
    before = len(notes.said)
    inner = [operand for kind, operand in operands if kind == "command"]
    if program.why:
        notes.say(program.risk, f"{program.name} {program.why}")
    elif not inner and not any(kind in ("env", "shell") for kind, _ in operands) and not _as_module(given):
        notes.say(program.risk, _mildly(program, words))
    _network(notes, program.why)
    _options(notes, program, given)
    for kind, operand in operands:
        if kind not in ("command", "env", "module"):
            effect(notes, program, kind, operand)
    if any(kind == "env" for kind, _ in operands):
        inner = _assigned(notes, program, [operand for kind, operand in operands if kind == "env"])
    if inner:
        _within(notes, program, inner)
    if program.bare and (not given.operands or given.operands[0] == "-") and not _told_what(given):
        notes.opaque, notes.code = True, True
        notes.say(Risk.HIGH, f"{program.name} {program.bare}")
    for kind, value in ((option.kind, value) for _, value, option in given.options):
        if kind == "module":
            _module(notes, [value, *given.operands])
    if program.code:
        notes.code = True
    for path in program.runs:
        _scripts(notes, path)
    for path in program.writes:
        _path(notes, program, path, writing=True, quiet=program.test)
    if len(notes.said) == before:
        notes.say(Risk.LOW, f"{program.name} only reads")
    if _inner_git(program, notes):
        notes.code = True
        notes.say(Risk.MEDIUM, "git in another folder follows the configuration that it finds there")


def _mildly(program: Program, words: Sequence[str]) -> str:
    if program.test:
        return f"runs the project's own checks ({' '.join([program.name, *words][:4])})"
    return f"runs what the project says ({program.name})" if program.code else f"{program.name} only reads"


def _as_module(given: Split) -> bool:
    return any(option.kind == "module" for _, _, option in given.options)


def _told_what(given: Split) -> bool:
    return any(
        option.kind in ("module", "code", "shell", "script", "sed", "awk", "jq") for _, _, option in given.options
    )


def _options(notes: Notes, program: Program, given: Split) -> None:
    options = given.options
    if program.name == "tar":  # its archive is named from where it was called
        options = sorted(options, key=lambda one: one[2].kind == "chdir")
    for name, value, option in options:
        if option.risk is not Risk.LOW:
            notes.say(option.risk, f"{program.name} {name} {option.why}")
            _network(notes, option.why)
        if program.name == "tar" and name in ("-f", "--file") and ":" in value.split("/")[0]:
            effect(notes, program, "host", value)  # an archive at another machine, whatever tar does with it
        elif option.kind not in ("flag", "text", "module") and (value or not option.optional):
            effect(notes, program, option.kind, value)


def _network(notes: Notes, why: str) -> None:
    notes.network = notes.network or "network" in why or "other systems" in why


def effect(notes: Notes, program: Program, kind: str, value: str) -> None:
    """Notes what follows from a word of this kind."""
    name = program.name
    match kind:
        case "text" | "flag" | "pair":
            pass
        case "target":
            if "=" in value:
                raise NotUnderstood(f"the assignment {value[:60]}")
        case "format":
            if not value.startswith("+"):
                raise NotUnderstood("a time to set")
        case "suffix":
            if "/" in value or "*" in value:
                raise NotUnderstood("a name for copies that leads elsewhere")
            _path(notes, program, ".", writing=True)
        case "ref":
            if any(_outside(place, value) for place in notes.places):
                _path(notes, program, value, writing=False)
        case "read" | "list" | "pair-read":
            _path(notes, program, value, writing=False)
            if kind == "list":
                notes.say(Risk.MEDIUM, f"{name} reads the files that {value[:60]} names")
        case "write" | "delete":
            _path(notes, program, value, writing=True)
            notes.deletes = notes.deletes or kind == "delete"
        case "chdir" if value == "-":
            raise NotUnderstood("the folder before")
        case "chdir":
            _path(notes, program, value, writing=False)
            notes.places = tuple(dict.fromkeys(_joined(place, value) for place in notes.places))
        case "host":
            notes.network = True
            notes.hosts.append(value[:300])
            notes.say(Risk.HIGH, f"{name} wants the network: {value[:100]}")
        case "program":
            notes.programs += [value, posixpath.basename(value)]
            notes.code = True
            notes.say(Risk.HIGH, f"{name} runs {value[:100]}")
        case "shell":
            _shell(notes, name, value)
        case "code":
            notes.opaque, notes.code = True, True
            notes.say(Risk.HIGH, f"{name} {_HIDES}")
        case "assign":
            _assigned(notes, program, [value])
        case "script":
            if value == "-":
                notes.opaque, notes.code = True, True
                notes.say(Risk.HIGH, f"{name} {_HIDES}")
            else:
                _run_file(notes, value, by=name)
        case "sed" | "awk" | "jq":
            _language(notes, program, kind, value)
        case _:
            raise NotUnderstood(kind)


def _language(notes: Notes, program: Program, kind: str, text: str) -> None:
    told = languages.READERS[kind](text)
    if told.opaque:
        notes.opaque, notes.code = True, True
        notes.say(Risk.HIGH, f"{program.name} may run or write more: {told.opaque}")
    for path in told.reads:
        _path(notes, program, path, writing=False)
    for path in told.writes:
        _path(notes, program, path, writing=True)


def _path(notes: Notes, program: Program, path: str, *, writing: bool, quiet: bool = False) -> None:
    if path in _NOWHERE:
        return
    for place in notes.places:
        whole = _joined(place, path)
        (notes.writes if writing else notes.reads).append(whole)
        if _outside(place, path):
            risk = Risk.HIGH if writing else Risk.MEDIUM
            notes.say(risk, f"{program.name} {'changes' if writing else 'names'} {path[:200]}, outside the workspace")
        elif writing and ".git" in whole.split("/"):
            notes.say(Risk.HIGH, f"{program.name} changes {path[:200]}, which says what git does")
        elif writing and not quiet:
            notes.say(Risk.MEDIUM, f"{program.name} changes {path[:200]}")


def _joined(place: str, path: str) -> str:
    return path if path.startswith("~") else posixpath.normpath(posixpath.join(place, path))


def _outside(place: str, path: str) -> bool:
    joined = posixpath.join(place, path)
    return joined.startswith("/") or path.startswith("~") or ".." in joined.split("/")


def _went(notes: Notes, before: tuple[str, ...]) -> None:
    """After `cd`: it may have gone, or failed, or run beside the rest."""
    places = tuple(dict.fromkeys([*before, *notes.places]))
    if len(places) > _PLACES_MAX:
        notes.known, notes.unlisted, places = False, True, before
        notes.say(Risk.HIGH, "it changes folders too often to be judged")
    notes.places = places


def _run_file(notes: Notes, path: str, by: str = "") -> None:
    """A file of the workspace that is run."""
    notes.code = True
    notes.say(Risk.MEDIUM, f"{by} runs the file {path[:200]}" if by else f"runs the file {path[:200]}")
    _scripts(notes, path)
    if any(_outside(place, path) for place in notes.places):
        notes.say(Risk.HIGH, f"runs {path[:200]}, outside the workspace")


def _scripts(notes: Notes, path: str) -> None:
    notes.scripts += [_joined(place, path) for place in notes.places if not _outside(place, path)]


def _module(notes: Notes, argv: list[str]) -> None:
    """`python -m`: a module that is a program too is read as that program."""
    name = argv[0]
    notes.code = True
    if name in _MODULES:
        inner = [name, *argv[1:]]
        notes.depth += 1
        command(notes, inner)
        notes.depth -= 1
    else:
        notes.say(Risk.MEDIUM, f"runs the module {name[:100]}")
    parts = name.split(".")
    for end in range(1, len(parts) + 1):  # what it stands in runs before it
        path = "/".join(parts[:end])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            _scripts(notes, file)
    _scripts(notes, f"{'/'.join(parts)}/__main__.py")


def _shell(notes: Notes, name: str, text: str) -> None:
    parsed = script.parse(text)
    if parsed.opaque:
        notes.opaque, notes.code, notes.known = True, True, False
        notes.say(Risk.HIGH, f"{name} {_HIDES}: {parsed.opaque}")
        return
    places, notes.depth = notes.places, notes.depth + 1
    for argv in parsed.commands:
        command(notes, argv)
    notes.places, notes.depth = places, notes.depth - 1


def _assigned(notes: Notes, program: Program, words: Sequence[str]) -> list[str]:
    """Notes NAME=VALUE words, and gives the command behind them."""
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if not equals:
            return list(words[place:])
        if name not in HARMLESS_NAMES and not name.startswith(HARMLESS_PREFIXES):
            notes.known, notes.unlisted = False, True
            notes.say(Risk.HIGH, f"{program.name} sets {name[:60]}, which may change what runs")
    return []


def _within(notes: Notes, program: Program, argv: Sequence[str]) -> None:
    """A command that another runs."""
    notes.depth += 1
    command(notes, argv)
    notes.depth -= 1
    if program.more:
        inner = known(posixpath.basename(argv[0]))
        if inner is None or not inner.pure:
            notes.known = False
            notes.say(Risk.HIGH, f"{program.name} gives {argv[0][:60]} words that are not told")
        else:
            notes.say(Risk.MEDIUM, f"{program.name} gives {argv[0][:60]} files that are not told")


def _runs_others(program: Program) -> bool:
    return program.style == "find" or program.more or any(role.kind in ("command", "env") for role in program.operands)


def _run_somehow(notes: Notes, argv: Sequence[str]) -> None:
    """Of a program that may run others, every word counts that is no option."""
    for place, word in enumerate(argv[1:], start=1):
        if word.startswith("-") or not word:
            continue
        bare = os.path.basename(word)
        notes.programs += [word] if word == bare else [word, bare]
        inner = known(bare)
        if inner is not None and (inner.bare or bare in ("eval", ".", "source")) and notes.depth <= DEPTH_MAX:
            notes.depth += 1
            command(notes, argv[place:])
            notes.depth -= 1


def _literal(program: Program, words: Sequence[str]) -> None:
    """echo, printf: text, but for a shell's own options that assign variables."""
    if program.name == "printf" and words and words[0].startswith("-") and words[0] != "--":
        raise NotUnderstood(words[0][:20])


def _tested(program: Program, words: Sequence[str]) -> None:
    for word in words:
        if word.startswith("-") and word not in program.options and not word[1:].isdecimal():
            raise NotUnderstood(word[:20])
        if "[" in word.rstrip("]") and word not in ("[",):
            raise NotUnderstood("an arithmetic expression")


def _inner_git(program: Program, notes: Notes) -> bool:
    return program.name.split(" ")[0] == "git" and any(place != "." for place in notes.places)
