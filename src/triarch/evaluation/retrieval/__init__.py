"""How well a model's vectors find the passages that answer a query, and agree with people on what is alike."""
