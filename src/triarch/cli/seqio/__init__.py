"""SeqIO on the command line: verbs' parts that need TensorFlow."""
