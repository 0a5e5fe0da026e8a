"""`manage.py watch JOB`: a job's feed, live."""

import json
import re
import shutil
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.models import FeedEntry, Job
from agents.states import JobState
from agents.watching import EXIT_CODES, follow, progress

NO_SUCH_JOB, TIMED_OUT, INTERRUPTED = 3, 4, 130
_CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Command(BaseCommand):
    help = (
        "Shows what a job does until it ends. Exits with 0 (succeeded), 1 (failed), 2 (cancelled), "
        "3 (no such job) or 4 (--timeout passed)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", help="the job's id")
        parser.add_argument("--json", action="store_true", help="one JSON object a line; the last is the job's end")
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop watching after this long")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            job_id = UUID(options["job"])
        except ValueError:
            raise CommandError(f"{options['job']!r} is no job id.", returncode=NO_SUCH_JOB) from None
        code = watch(job_id, self, as_json=options["json"], timeout_s=options["timeout"])
        if code:
            sys.exit(code)


def watch(job_id: UUID, command: BaseCommand, *, as_json: bool, timeout_s: float | None = None) -> int:
    """Prints the feed until the job ends; gives the exit code."""
    screen = _Screen(command, as_json=as_json)
    try:
        for entry in follow(job_id, timeout_s=timeout_s):
            if entry is None:
                screen.progress(job_id)
            else:
                screen.entry(entry)
        job = Job.objects.get(pk=job_id)
    except Job.DoesNotExist:
        raise CommandError(f"There is no job {job_id}.", returncode=NO_SUCH_JOB) from None
    except TimeoutError as error:
        screen.clear()
        raise CommandError(str(error), returncode=TIMED_OUT) from None
    except KeyboardInterrupt:
        screen.clear()
        return INTERRUPTED
    screen.end(job)
    return EXIT_CODES[JobState(job.state)]


class _Screen:
    """Lines, and on a terminal one progress line below them that is drawn over."""

    def __init__(self, command: BaseCommand, *, as_json: bool) -> None:
        self._out, self._style, self._json = command.stdout, command.style, as_json
        self._live = not as_json and bool(getattr(self._out, "isatty", bool)())
        self._drawn = ""
        self._open = False  # the last output did not end its line

    def entry(self, entry: FeedEntry) -> None:
        if self._json:
            step = None if entry.step_id is None else str(entry.step_id)
            self._write_json(
                {"seq": entry.seq, "at": entry.at.isoformat(), "kind": entry.kind, "step": step, "data": entry.data}
            )
            return
        self.clear()
        data = entry.data
        if entry.kind in {"log", "token"}:
            self._raw(clean(str(data.get("text", ""))))
            return
        self._end_line()
        if entry.kind == "job":
            self._out.write(f"● job {data['state']}")
        elif entry.kind == "step":
            again = f" (attempt {data['attempt']})" if data.get("attempt", 0) > 1 else ""
            self._out.write(f"  {data['key']:<12} {data['tool']:<18} {data['state']}{again}")
        else:
            self._out.write(f"  · {clean(str(data.get('text', '')))}")

    def progress(self, job_id: UUID) -> None:
        if not self._live or self._open:
            return
        line = progress(job_id)[: shutil.get_terminal_size().columns - 1]
        if line != self._drawn:
            self.clear()
            self._out.write(line, ending="")
            self._out.flush()
            self._drawn = line

    def clear(self) -> None:
        if self._drawn:
            self._out.write("\r\x1b[2K", ending="")
            self._drawn = ""

    def end(self, job: Job) -> None:
        if self._json:
            self._write_json({"kind": "end", "job": str(job.pk), "state": job.state, "outcome": job.outcome})
            return
        self.clear()
        self._end_line()
        paint = self._style.SUCCESS if job.state == JobState.SUCCEEDED else self._style.ERROR
        outcome = f": {clean(job.outcome)}" if job.outcome else ""
        self._out.write(paint(f"Job {job.state}{outcome}"))

    def _raw(self, text: str) -> None:
        if text:
            self._out.write(text, ending="")
            self._out.flush()
            self._open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._open:
            self._out.write("")
            self._open = False

    def _write_json(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line, ensure_ascii=False))
        self._out.flush()


def clean(text: str) -> str:
    """Without escape sequences and control characters: what a tool prints must not drive this terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
