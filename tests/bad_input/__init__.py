"""What triarch says of bad input: a table of mistakes, each with what its one line must mention."""
