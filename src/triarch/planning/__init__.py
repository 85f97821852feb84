"""Planning: a run's steps compiled ahead of time for TPU slices that need not be at hand."""

from triarch.planning.candidates import candidates
from triarch.planning.generation import Lengths
from triarch.planning.plan import Plan, make_plan
from triarch.planning.quick import make_quick_plan
from triarch.planning.search import confirmed, search
from triarch.planning.topology import Topology, parse

__all__ = ["Lengths", "Plan", "Topology", "candidates", "confirmed", "make_plan", "make_quick_plan", "parse", "search"]
