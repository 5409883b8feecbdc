"""The platform in one process with a private PostgreSQL: no server needs to be on the machine."""
