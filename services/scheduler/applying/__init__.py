"""Applying: definitions of all kinds saved together, or none, and all of them given out."""
