"""Text to token stores."""
