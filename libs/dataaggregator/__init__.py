"""The kit that every service of the Data Aggregator Platform is built from."""
