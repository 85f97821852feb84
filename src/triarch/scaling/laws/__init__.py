"""Laws: what each says of a table, and how it is fitted."""
