"""Webhooks: events sent to addresses of others, signed, at least once, each receiver at its own pace."""
