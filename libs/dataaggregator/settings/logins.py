"""Settings of logins: how long they last, and what passwords have to be and cost."""

from typing import Annotated

from pydantic import Field

from dataaggregator.settings.oidc import OidcSettings


class LoginSettings(OidcSettings):
    """By a password, and by an identity provider where there is one."""

    access_token_expire_minutes: Annotated[float, Field(gt=0, le=1440)] = Field(
        30, description="Life of an access token, minutes."
    )
    refresh_token_expire_days: Annotated[float, Field(gt=0, le=365)] = Field(
        7, description="How long a login goes on without being used, days."
    )
    session_expire_days: Annotated[float, Field(gt=0, le=365)] = Field(
        30, description="How long a login goes on, however often it is used, days."
    )
    bcrypt_cost: Annotated[int, Field(ge=4, le=18)] = Field(
        12, description="Cost of a password hash; one more doubles the time."
    )
    password_min_length: Annotated[int, Field(ge=8, le=128)] = Field(
        8, description="Characters a new password needs at least."
    )
    password_reset_expire_minutes: Annotated[float, Field(gt=0, le=10_080)] = Field(
        60, description="Life of a token that sets a new password, minutes."
    )
