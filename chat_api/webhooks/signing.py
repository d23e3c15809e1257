"""Signatures as the Standard Webhooks specification 1.0 has them, and the secrets they are made with.

The receiver checks `webhook-signature` with any library of that specification. What is signed is
`<webhook-id>.<webhook-timestamp>.<body>`, by HMAC-SHA256.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - the beginning of every secret, not one
_SECRET_BYTES = 32


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers of one attempt. With two secrets there are two signatures: the receiver needs either.

    `timestamp` is the time of this attempt in seconds since 1970: receivers refuse old ones.
    """
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = [f"v1,{_signature(key, content)}" for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
