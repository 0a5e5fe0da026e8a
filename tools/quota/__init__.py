"""How much a job's workspace may hold: asked before a step, watched while its commands run, measured after it."""

from tools.quota.admission import admit, allowance, known, note
from tools.quota.bounds import Bounds, bounds
from tools.quota.measure import Usage, measure
from tools.quota.watch import Watch

__all__ = ["Bounds", "Usage", "Watch", "admit", "allowance", "bounds", "known", "measure", "note"]
