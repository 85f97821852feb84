"""Rank classification: which of several answers a model finds likeliest, on questions of local files."""

from triarch.evaluation.ranking.questions import Question, read_questions
from triarch.evaluation.ranking.ranking import Ranked, Summary, as_row, differences, rank, summarise

__all__ = ["Question", "Ranked", "Summary", "as_row", "differences", "rank", "read_questions", "summarise"]
