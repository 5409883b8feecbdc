"""Private servers for development and tests: own folders, own loopback ports, ended with whoever started them."""
