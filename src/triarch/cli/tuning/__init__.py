"""What the command line has for tuning: rows to tune on, and questions of tasks that were not tuned on."""
