"""Where in the storage the bytes of documents are."""

from __future__ import annotations

from uuid import UUID


def storage_key(bot_id: UUID, document_id: UUID) -> str:
    """Below the bot, so that all of one bot are found together. Nothing that a person typed becomes a path."""
    return f"{bot_id}/{document_id}"
