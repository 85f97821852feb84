"""Cases that fail still, by name, each with what happens instead of one line; both are empty when all is well."""

# These are run all the same.
KNOWN: dict[str, str] = {}
# These would end the tests' process, or hold it where no signal reaches.
DANGEROUS: dict[str, str] = {
    "gin line: 10^9 layers": "fills the memory",
}
