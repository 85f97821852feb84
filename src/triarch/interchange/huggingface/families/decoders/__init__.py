"""Decoders of attention layers."""
