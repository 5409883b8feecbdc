"""The user's Python in a process of its own: apart from the engine, the counts and the key to mask with."""

SOURCE_NAME = "<transform>"
"""What the user's source is called in a traceback."""

PIECE_ROWS = 65_536
PIECE_BYTES = 64 << 20
"""A table goes out in pieces of about so much; a single row may have more."""

PRINTED_CHARACTERS = 4_000
"""So much of what is printed in one call is kept, and of what an error says."""
