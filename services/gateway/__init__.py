"""The gateway: the one door of the platform: routes calls, keeps limits, and tells what happens."""

SERVICE = "gateway"
SCHEMA = "gateway"
