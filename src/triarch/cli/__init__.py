"""The command line: one small file per verb, and gin."""
