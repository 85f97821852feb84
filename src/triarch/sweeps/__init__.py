"""Studies: grids of runs, run to the end whatever interrupts them, and gathered into tables."""
