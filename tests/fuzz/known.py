"""Targets that fail still, by name, each with what happens; empty when all is well."""

KNOWN: dict[str, str] = {}
