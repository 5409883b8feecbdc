"""The untrusted side of a run: a locked-down process for the users' SQL, and the trusted side's handle on it."""
