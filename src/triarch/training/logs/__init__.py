"""Logs: the metrics file, trackers, the line of progress, and profiles."""
