"""Kernels: the ways to compute attention, one for each processor."""
