"""Parked: the events that any service set aside for a person, as administrators see and replay them."""
