"""Audit: who did what, appended in one hash chain that shows any later change."""
