"""Figures of fits, of their checks, and of several side by side."""
