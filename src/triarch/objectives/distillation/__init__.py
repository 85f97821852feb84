"""Distillation: what a teacher predicts as the target."""
