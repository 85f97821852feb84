"""What a run's folder says of it: its config, where it began, and what was changed on the way."""
