"""Scheduler: backfills, a period of a pipeline loaded again slot by slot."""
