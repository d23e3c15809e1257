"""What the model is shown of the files in a conversation: pictures as they are, everything else by name.

The bytes are read from storage when the turn begins, and no connection to the database is held meanwhile. A file
that is not there is no reason for a turn to fail: the model is told, and can tell.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from chat_api.attachments.media_types import shown_image
from chat_api.attachments.statements import STORED_AT
from chat_api.kit.db import Database
from chat_api.kit.storage import BytesMissing, Storage, StorageUnavailable
from chat_api.runs.repository import Exchange
from shared.contracts.chat import MAX_IMAGE_BYTES, MAX_IMAGES, ChatImage, ImageType
from shared.logging import get_logger

log = get_logger("runs")

RECENT_MESSAGES = 10
"""Pictures of earlier messages are named only: they would be sent, and paid for, again in every turn."""

Attached = Mapping[str, Any]
"""A file as a message holds it: `id`, `name`, `content_type`, `size_bytes`."""


class AttachedFiles:
    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def shown(self, history: Sequence[Exchange]) -> list[Exchange]:
        """The history with the newest pictures that have room, and the other files named in the text."""
        chosen = list(_chosen(history))
        pictures = await self._read(chosen) if chosen else {}
        return [_with_files(exchange, pictures) if exchange.attachments else exchange for exchange in history]

    async def _read(self, chosen: Sequence[Attached]) -> dict[str, ChatImage]:
        rows = await self._database.fetch_rows(STORED_AT, [UUID(file["id"]) for file in chosen])
        keys = {str(row["id"]): row["storage_key"] for row in rows}
        pictures: dict[str, ChatImage] = {}
        for file in chosen:
            image = shown_image(file["content_type"])
            key = keys.get(file["id"])
            if image is None or key is None:
                continue
            try:
                content = b"".join([piece async for piece in await self._storage.read(key)])
            except BytesMissing:
                log.warning("run.image_missing", attachment_id=file["id"])
                continue
            except StorageUnavailable:
                # It was asked several times already, and would be as slow for the others.
                break
            if 0 < len(content) <= file["size_bytes"]:
                # In a thread: some milliseconds for the largest.
                pictures[file["id"]] = await asyncio.to_thread(_picture, image, content)
        return pictures


def _picture(image: ImageType, content: bytes) -> ChatImage:
    # Made here, so there is nothing to check, which would take longer than the making.
    return ChatImage.model_construct(media_type=image, data=base64.b64encode(content).decode())


def _chosen(history: Sequence[Exchange]) -> Iterator[Attached]:
    """The pictures to show, those of the newest message first. One that is too large leaves its room to others."""
    count, room = 0, MAX_IMAGE_BYTES
    for exchange in reversed(history[-RECENT_MESSAGES:]):
        for file in exchange.attachments:
            if shown_image(file["content_type"]) is None or file["size_bytes"] > room:
                continue
            if count == MAX_IMAGES:
                return
            count, room = count + 1, room - file["size_bytes"]
            yield file


def _with_files(exchange: Exchange, pictures: Mapping[str, ChatImage]) -> Exchange:
    images, lines = [], [exchange.content]
    for file in exchange.attachments:
        picture = pictures.get(file["id"])
        if picture is not None:
            images.append(picture)
        elif shown_image(file["content_type"]) is not None:
            lines.append(f"[image: {file['name']}, which is not shown here]")
        else:
            lines.append(f"[file: {file['name']}]")
    return replace(exchange, content="\n".join(lines), images=tuple(images))
