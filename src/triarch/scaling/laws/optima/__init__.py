"""Laws of optima: the best run for a budget, and lines through such runs."""
