"""What verbs show: tables, stores, batches and texts."""
