"""OIDC: logins at an identity provider, and who is who there and here."""
