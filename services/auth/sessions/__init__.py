"""Sessions: login, refresh with rotation, logout, and what is revoked."""
