"""The pipeline-scheduler: definitions, slots, runs as asked for and the mirror of their state."""
