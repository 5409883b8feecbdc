"""docker-compose.yml for real: on an engine of the test run's own, with images made from Debian's packages."""
