"""Tables of runs as people have them, and what their columns stand for."""
