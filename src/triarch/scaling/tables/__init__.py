"""Tables of runs as people have them."""
