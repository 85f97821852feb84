"""What keeps a long run alive: processes of a pod, signals, locks, memory."""
