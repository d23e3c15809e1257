"""What attachments look like on the wire."""

from __future__ import annotations

from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_api.attachments.models import Attachment
from shared.schema import ReadSchema, Timestamp

_EXAMPLE: dict[str, Any] = {
    "id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "name": "harbour.png",
    "content_type": "image/png",
    "size_bytes": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": "2026-01-31T09:29:00.000000Z",
}


class AttachmentRead(ReadSchema):
    """A file that was uploaded, to be named in a message."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: UUID
    name: str
    content_type: str = Field(description="By what is in the file, not by what was said of it.")
    size_bytes: int
    sha256: str = Field(description="Of the file's bytes, hexadecimal.")
    created_at: Timestamp

    @classmethod
    def of(cls, attachment: Attachment) -> Self:
        return cls(
            id=attachment.id,
            name=attachment.name,
            content_type=attachment.content_type,
            size_bytes=attachment.size_bytes,
            sha256=attachment.sha256.hex(),
            created_at=attachment.created_at,
        )


class AttachmentFingerprint(BaseModel):
    """What makes two uploads the same: the form around the file differs each time."""

    name: str
    sha256: str
