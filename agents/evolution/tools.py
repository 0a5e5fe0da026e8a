"""The tools of a search, in the order in which its workflow calls them."""

from agents.evolution.choosing import Apply, Rank
from agents.evolution.measuring import Begin, Measure
from agents.evolution.proposing import Propose
from tools.spec import Tool

ALL: tuple[Tool, ...] = (Begin(), Propose(), Measure(), Rank(), Apply())
