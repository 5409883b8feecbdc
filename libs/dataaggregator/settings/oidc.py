"""Settings of logins by an identity provider (OpenID Connect)."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from dataaggregator.settings.values import GroupRoles, Names, Strengths

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""By a key pair only: with a shared secret whoever can verify a token can make one."""


class OidcSettings(BaseModel):
    """Without an issuer there is no such login."""

    oidc_issuer: str | None = Field(
        None, description="The identity provider people log in by, as its discovery document names it."
    )
    oidc_client_id: str | None = Field(None, description="What this platform is called at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="What this platform proves itself with at the provider; a public client has none."
    )
    oidc_redirect_url: str | None = Field(
        None,
        description="Where the provider sends browsers back to: https://<the gateway>/api/auth/oidc/callback, as it is "
        "registered there.",
    )
    oidc_scopes: Names = Field(
        ("openid", "email", "profile"), description="What is asked for at the provider, comma-separated."
    )
    oidc_algorithm: Algorithm = Field("RS256", description="The one algorithm by which the provider signs id tokens.")
    oidc_groups_claim: str = Field("groups", description="Where the provider says somebody's groups.")
    oidc_roles: GroupRoles = Field(
        (),
        description="Roles by group, comma-separated: `data-team=editor,leads=admin@marketing,*=viewer`; without @ in "
        "the workspace default, * is everybody. In these workspaces the groups decide at each login.",
    )
    oidc_join_by_email: bool = Field(
        False, description="Let who comes by the provider for the first time be the user with the same verified e-mail."
    )
    oidc_strength: Strengths = Field(
        (),
        description="How people must have logged in at the provider, comma-separated, one of them is enough: `amr=mfa` "
        "is a method that the id token names, `acr=https://refeds.org/profile/mfa` a level, which is also asked for.",
    )
    oidc_only: bool = Field(
        False, description="Who has come by the provider once cannot log in with a password any more."
    )

    @field_validator("oidc_issuer", "oidc_redirect_url")
    @classmethod
    def _check_address(cls, url: str | None) -> str | None:
        if url is not None and not _is_safe(url):
            raise ValueError("should be https://host/path without ? and #; http:// is taken for this machine only")
        return url

    @field_validator("oidc_scopes")
    @classmethod
    def _check_scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("should hold openid, without which the provider says nothing of who somebody is")
        return scopes

    @model_validator(mode="after")
    def _check_whole(self) -> "OidcSettings":
        if self.oidc_issuer is not None and (self.oidc_client_id is None or self.oidc_redirect_url is None):
            raise ValueError("OIDC_ISSUER should come with OIDC_CLIENT_ID and OIDC_REDIRECT_URL")
        return self


def _is_safe(url: str) -> bool:
    """Over TLS, or on this machine, where nobody listens in between."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    near = host in ("localhost", "127.0.0.1", "::1")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and near)) and not set(url) & set("?#@ ")
