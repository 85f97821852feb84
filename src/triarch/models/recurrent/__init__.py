"""Recurrences: mixers that read a text once, from left to right, and keep a state of fixed size."""
