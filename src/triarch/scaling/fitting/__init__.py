"""How a law is fitted: objectives, minimisers, resamples, and the fit that comes of them."""
