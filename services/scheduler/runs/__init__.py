"""Runs: asked-for runs, and the mirror of what the executor says about them."""
