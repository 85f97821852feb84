"""Scaling laws with uncertainty, figures and the report. Takes plain tables; knows nothing of models or training."""
