"""The connector SDK: sources, destinations, what they are configured with, and the egress they connect through."""
