"""What `triarch evaluate` computes besides the loss on stores."""
