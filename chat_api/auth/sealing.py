"""Encrypts secrets that have to be read again, so that a copy of the database does not give them away."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chat_api.kit.idempotency import IdempotencyKeyReused, Seal
from shared.security import KeyRing

_PURPOSE = b"colloquy: stored answers"


def fernet_for(purpose: bytes, secret_key: str) -> Fernet:
    """Fernet under a key for that purpose alone, derived from a secret key of the installation."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def fernets_for(purpose: bytes, secret_keys: KeyRing) -> MultiFernet:
    """The same over a ring: encrypts under the current key, and decrypts under whichever fits."""
    return MultiFernet([fernet_for(purpose, key) for key in secret_keys])


class SecretSeal(Seal):
    """For stored answers that carry a secret."""

    def __init__(self, secret_keys: KeyRing) -> None:
        self._fernet = fernets_for(_PURPOSE, secret_keys)

    def close(self, body: bytes) -> bytes:
        return self._fernet.encrypt(body)

    def open(self, stored: bytes) -> bytes:
        """Raises `IdempotencyKeyReused` when the secret key was changed since, and is not accepted any more."""
        try:
            return self._fernet.decrypt(stored)
        except InvalidToken:
            raise IdempotencyKeyReused("The stored answer can no longer be read. Use a new key.") from None
