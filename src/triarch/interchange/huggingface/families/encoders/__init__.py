"""Encoders: BERT and what came of it. ModernBERT is here as a decoder, too."""
