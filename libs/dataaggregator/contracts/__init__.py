"""Contracts: every message and definition that crosses a wire; same names as proto/dataaggregator/v1."""
