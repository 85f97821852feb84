"""Planning: a run's steps compiled ahead of time for TPU slices that need not be at hand."""

from triarch.planning.generation import Lengths
from triarch.planning.plan import Plan, make_plan
from triarch.planning.search import search
from triarch.planning.topology import Topology, parse

__all__ = ["Lengths", "Plan", "Topology", "make_plan", "parse", "search"]
