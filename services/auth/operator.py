"""The operator's way in: what whoever has the machine does without a login."""

from services.auth.keys.signing import SigningKeys
from services.auth.passwords.api import ResetView, reset_view
from services.auth.passwords.commands import PasswordCommands


class Operator:
    """Proves itself by SECRET_KEY, which has to open what this installation has sealed."""

    def __init__(self, keys: SigningKeys, changes: PasswordCommands) -> None:
        self._keys = keys
        self._changes = changes

    async def reset_password(self, email: str) -> ResetView:
        """Let the user with this e-mail set a new password; raises Permanent `sealed-data-unreadable`."""
        await self._keys.pepper()
        return reset_view(*await self._changes.allow_reset_as_operator(email))
