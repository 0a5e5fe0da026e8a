"""What a job keeps, as its page lists it."""

from dataclasses import dataclass

from agents.artifacts import artifacts_of
from agents.models import Job, Step
from agents.web.words import count, readable, size
from tools.artifacts.kinds import PICTURES
from tools.models import Artifact

SHOWN = 200
PICTURES_SHOWN = 8
PICTURE_MAX_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """step: its key, "" where the step is not there any more; gone: why there is nothing to download, "" where there is."""

    artifact: Artifact
    name: str
    size: str
    step: str
    gone: str
    redacted: str


def lines(job: Job) -> list[Line]:
    """The newest first."""
    found = list(artifacts_of(job).order_by("-created_at", "-pk")[:SHOWN])
    keys = {str(pk): key for pk, key in Step.objects.filter(job=job).values_list("pk", "key")} if found else {}
    return [
        Line(
            artifact=one,
            name=readable(one.name),
            size=size(one.size_bytes),
            step=keys.get(one.subject, ""),
            gone=one.purged_why if one.purged_at is not None else "",
            redacted=f"{count(one.redacted, 'secret')} taken out" if one.redacted else "",
        )
        for one in found
    ]


def pictures(lines: list[Line], step: Step) -> list[Line]:
    """What of it is a picture that this step kept, in the order in which it came."""
    found = [
        line
        for line in reversed(lines)
        if line.artifact.subject == str(step.pk)
        and not line.gone
        and line.artifact.content_type in PICTURES
        and line.artifact.size_bytes <= PICTURE_MAX_BYTES
    ]
    return found[:PICTURES_SHOWN]
