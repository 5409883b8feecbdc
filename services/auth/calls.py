"""What auth's doors share: who is acting in a call, and the words of its bodies."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from dataaggregator.errors import Denied
from dataaggregator.http.call import Call
from dataaggregator.permissions import Permission
from services.auth.audit.record import Actor

_PART = r"[^@\s\x00-\x1f\x7f]+"
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=rf"^\s*{_PART}@{_PART}\s*$")]
# Looked at whole by the policy, which names all that is wrong with one at once.
Password = Annotated[SecretStr, Field(min_length=1, max_length=4096, description="See docs/guarantees/identity.md.")]
# Looked up, not checked for form: a wrong one is answered like any other wrong one.
GivenPassword = Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class Body(BaseModel):
    """Base of every body: what is not declared is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def actor(call: Call) -> Actor:
    identity = call.identity
    return Actor(identity.user_id, identity.email, call.address, call.headers.get("X-Request-ID"), identity.key)


def administrator(call: Call) -> Actor:
    """Who acts where the role in the path decides: a key may do less than its owner's role there."""
    scopes = call.identity.scopes
    if scopes is not None and Permission.IDENTITY_ADMIN not in scopes:
        raise Denied("permission-denied", f"This needs a key with the scope {Permission.IDENTITY_ADMIN}.")
    return actor(call)
