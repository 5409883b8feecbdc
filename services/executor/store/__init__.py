"""store: all SQL of the executor's schema: runs and leases, what attempts left behind, logs."""
