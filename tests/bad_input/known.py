"""Cases that fail still, by name, each with whose it is and what happens; empty when all is well."""

# These are run all the same.
KNOWN: dict[str, str] = {}
# These would end the tests' process, fill its memory, or take longer than they may.
DANGEROUS: dict[str, str] = {}
