"""The services of the platform; each is found by its entry point and imports no other."""
