"""Pipelines: definitions with their versions, what they use, and their schedules."""
