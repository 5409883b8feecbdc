"""Hooks: the addresses of pipelines that start a run when they are called."""
