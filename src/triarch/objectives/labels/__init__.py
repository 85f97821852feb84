"""Labels of texts and of words: classes and numbers, and the heads that tell them."""
