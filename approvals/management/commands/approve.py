"""`manage.py approve ID`."""

from approvals.management.deciding import Deciding
from approvals.models import Vote


class Command(Deciding):
    help = "Approves a request. Nobody approves their own. Exits with 3 where the decision is refused."
    verdict = Vote.Verdict.APPROVE
