"""What `triarch export` writes besides parameters."""
