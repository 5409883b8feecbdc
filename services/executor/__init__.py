"""executor: it alone runs runs: attempts and their backoff, leases, ledgers, logs, quarantine, cursors."""
