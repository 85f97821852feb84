"""Laws of single papers, as their authors fit them."""
