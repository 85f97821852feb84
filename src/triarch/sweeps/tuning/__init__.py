"""Suites of labelled tasks: every model tuned on every task, over rates, epochs and seeds."""
