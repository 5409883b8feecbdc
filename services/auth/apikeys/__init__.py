"""API keys: what programs log in with; each lets do a part of what its owner may, in one workspace, until its end."""
