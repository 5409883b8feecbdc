"""Passwords: how they are hashed, which are refused, how one is changed, and how one that is lost is set anew."""
