"""The data plane: reading, changing, counting and loading rows."""
