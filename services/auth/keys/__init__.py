"""Keys: the pairs that sign access tokens, sealed in Postgres, rotated with overlap."""
