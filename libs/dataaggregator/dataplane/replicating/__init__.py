"""A whole schema in one run: its streams found, each loaded by a runner of its own, and one outcome of all."""
