"""Figures of fits, and what is printed of them."""
