"""Transformations: named steps with their versions, and which pipelines use them."""
