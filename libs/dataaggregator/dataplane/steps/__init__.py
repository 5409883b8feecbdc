"""The kinds of steps at work on Arrow rows: one file a kind, each with its law."""
