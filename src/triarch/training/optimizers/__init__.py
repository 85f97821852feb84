"""Optimizers and schedules, each a value of a config."""
