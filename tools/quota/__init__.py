"""How much a job's workspace may hold: asked before a step, watched while its commands run, measured after it."""

from tools.quota.admission import admit, allowance, known, note
from tools.quota.bounds import MIB, Bounds, bounds
from tools.quota.measure import Usage, measure
from tools.quota.watch import Watch

__all__ = ["MIB", "Bounds", "Usage", "Watch", "admit", "allowance", "bounds", "known", "measure", "note"]
