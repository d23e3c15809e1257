"""Encrypts secrets that have to be read again, so that a copy of the database does not give them away."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chat_api.kit.idempotency import IdempotencyKeyReused, Seal

_PURPOSE = b"colloquy: stored answers"


def fernet_for(purpose: bytes, secret_key: str) -> Fernet:
    """Fernet under a key for that purpose alone, derived from the secret key of the installation."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


class SecretSeal(Seal):
    """For stored answers that carry a secret."""

    def __init__(self, secret_key: str) -> None:
        self._fernet = fernet_for(_PURPOSE, secret_key)

    def close(self, body: bytes) -> bytes:
        return self._fernet.encrypt(body)

    def open(self, stored: bytes) -> bytes:
        """Raises `IdempotencyKeyReused` when the secret key was changed since."""
        try:
            return self._fernet.decrypt(stored)
        except InvalidToken:
            raise IdempotencyKeyReused("The stored answer can no longer be read. Use a new key.") from None
