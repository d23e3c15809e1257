"""How the secrets of webhooks are kept: they have to be read to sign with them, so they are sealed, not hashed."""

from __future__ import annotations

from cryptography.fernet import InvalidToken

from chat_api.auth.sealing import fernet_for, fernets_for
from chat_api.webhooks.errors import SecretUnreadable
from shared.security import KeyRing

_PURPOSE = b"colloquy: webhook secrets"


class WebhookSecrets:
    def __init__(self, secret_keys: KeyRing) -> None:
        self._current = fernet_for(_PURPOSE, secret_keys.current)
        self._fernet = fernets_for(_PURPOSE, secret_keys)

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def read(self, sealed: bytes) -> str:
        """Raises `SecretUnreadable` when it was sealed with a key that is not accepted any more."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise SecretUnreadable from None

    def resealed(self, sealed: bytes) -> bytes:
        """The same secret under the current key; `sealed` itself where it is under it already.

        Raises `SecretUnreadable`.
        """
        try:
            self._current.decrypt(sealed)
        except InvalidToken:
            return self.seal(self.read(sealed))
        return sealed
