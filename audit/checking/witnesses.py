"""Have enough witnesses seen what the log says?"""

from datetime import UTC, datetime, timedelta

from audit.checking.checkpoints import Claims
from audit.checking.findings import Report, Verdict
from audit.checking.trust import Trust
from audit.errors import InvalidNote
from audit.notes import cosignatures

LATE = timedelta(minutes=10)


def check_quorum(report: Report, trust: Trust, claims: Claims, now: datetime) -> None:
    """A quorum of the policy cosigned a checkpoint that this log continues, and not long ago.

    Adds `quorum_missing`, which makes the log stale. What a cosigned checkpoint says is compared with the log as every
    other (`load_claims`), so a view that only the witnesses were shown is `root_differs`.
    """
    policy = trust.policy
    if policy is None or policy.met(()) or report.size == 0:
        return
    best: tuple[int, datetime] | None = None
    for line in trust.cosigned:
        try:
            judged = claims.ring.judge(line.note or "")
            seen = cosignatures(line.note or "", policy.verifiers)
        except InvalidNote:
            continue  # reported by load_claims
        if judged.void or judged.ended or not policy.met(seen):
            continue
        at = datetime.fromtimestamp(min(seen.values()), UTC)
        if best is None or judged.checkpoint.size >= best[0]:
            best = (judged.checkpoint.size, at)
    if best is None:
        report.add(
            "quorum_missing",
            "No checkpoint was cosigned by as many witnesses as the policy asks for.",
            level=Verdict.STALE,
        )
        return
    size, at = best
    report.notes.append(f"Enough witnesses cosigned the first {size} records, at {at:%F %T} UTC.")
    if size < (report.checkpoint_size or 0) and now - at > LATE:
        report.add(
            "quorum_missing",
            f"The last checkpoint that enough witnesses cosigned is of {at:%F %T} UTC: {size} of "
            f"{report.checkpoint_size} signed records.",
            level=Verdict.STALE,
        )
