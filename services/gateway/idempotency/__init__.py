"""Idempotency: a POST with an Idempotency-Key is carried out once and answered alike for 24 hours."""
