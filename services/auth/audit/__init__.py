"""Audit: who did what, appended in one hash chain a workspace, which shows any later change."""
