"""Arrivals: files that triggers wait for, each version told once."""
