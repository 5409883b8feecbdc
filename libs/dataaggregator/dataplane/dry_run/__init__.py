"""A dry run: a saved and a proposed definition on the same sample, by the compiler, sandbox and laws of a run."""
