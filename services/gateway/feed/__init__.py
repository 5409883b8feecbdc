"""Feed: all public events in one order, kept for seven days, told to who listens."""
