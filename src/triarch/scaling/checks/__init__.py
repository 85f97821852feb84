"""What a fit can be asked: profiles, influence, held-out error, rivals, comparisons."""
