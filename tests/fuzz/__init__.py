"""Files of every format that triarch reads, mutated: reading one works or raises UserError, whatever it holds."""
