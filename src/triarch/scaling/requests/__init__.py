"""What `triarch fit` is asked of a table, and what it answers."""
