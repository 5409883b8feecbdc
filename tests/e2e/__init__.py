"""End-to-end tests: a package, so that the platform they share is ended with the last of them."""
