"""How the secrets of webhooks are kept: they have to be read to sign with them, so they are sealed, not hashed."""

from __future__ import annotations

from cryptography.fernet import InvalidToken

from chat_api.auth.sealing import fernet_for
from chat_api.webhooks.errors import SecretUnreadable

_PURPOSE = b"colloquy: webhook secrets"


class WebhookSecrets:
    def __init__(self, secret_key: str) -> None:
        self._fernet = fernet_for(_PURPOSE, secret_key)

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def read(self, sealed: bytes) -> str:
        """Raises `SecretUnreadable` when the installation's key was changed since."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise SecretUnreadable from None
