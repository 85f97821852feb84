"""Runs in phases: what a phase changes, and the stages of one config that a run comes to."""
