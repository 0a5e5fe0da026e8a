"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz.guided TARGET [libFuzzer's options]`.

TARGET: shell, words, languages, paths, output. Atheris is not among the requirements: `pip install --target DIR atheris`
and set PYTHONPATH to DIR. `-max_total_time=60` ends it after a minute; what it finds stands in a file `crash-…`, to be
given as the last argument.
"""

import os
import sys
import tempfile
from collections.abc import Callable

import atheris


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    import django

    seen = ["tools.commands", "tools.builtin.script", "tools.builtin.beneath", "tools.redact", "tools.sandbox.output"]
    with atheris.instrument_imports(include=seen):
        django.setup()
        from tests.corpus.commands import cases
        from tests.fuzz import targets
        from tools.commands import programs

    names = sorted(programs())
    place = targets.tree()
    root = place.__enter__()

    def text(data: bytes) -> str:
        return data.decode(errors="replace")

    def shell(data: bytes) -> None:
        targets.shell_text(text(data))

    def words(data: bytes) -> None:
        given = [line.split("\x01") for line in text(data[1:]).split("\x02")]
        for line in given:
            line[0] = line[0] or names[data[0] % len(names) if data else 0]
        targets.words(given)

    def languages(data: bytes) -> None:
        targets.languages_text(text(data))

    def paths(data: bytes) -> None:
        name, _, other = text(data).replace("\0", "").partition("\x01")
        targets.path(root, name, other)

    def output(data: bytes) -> None:
        targets.output(text(data).split("\x01"))

    all_: dict[str, Callable[[bytes], None]] = {
        "shell": shell, "words": words, "languages": languages, "paths": paths, "output": output,
    }  # fmt: skip
    if len(sys.argv) < 2 or sys.argv[1] not in all_:
        sys.exit(__doc__)
    target = all_[sys.argv[1]]
    seeds = tempfile.mkdtemp(prefix="countersign-fuzz-")
    for number, (_, line, _) in enumerate(cases()):
        with open(os.path.join(seeds, str(number)), "w", encoding="utf-8") as file:
            file.write(line if target is not words else " " + line.replace(" ", "\x01"))
    os.chdir(tempfile.gettempdir())
    atheris.Setup([sys.argv[0], *sys.argv[2:], seeds], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
