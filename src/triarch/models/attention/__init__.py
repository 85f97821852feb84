"""Attention: the mixers that have queries, keys and values, what they cache, and how they know positions."""
