"""Limiting: which buckets a call takes from, and what goes on while their store does not answer."""
