"""What a fit can be asked: profiles, influence, held-out error, rivals, frontiers, comparisons."""
