"""What the model is shown of the files in a conversation: pictures as they are, everything else by name.

The bytes are read from storage when the turn begins, and no connection to the database is held meanwhile. A file
that is not there is no reason for a turn to fail: the model is told, and can tell.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from chat_api.attachments.media_types import shown_image
from chat_api.attachments.statements import STORED_AT
from chat_api.kit.db import Database
from chat_api.kit.storage import BytesMissing, Storage, StorageUnavailable
from chat_api.runs.history import Exchange
from shared.contracts.chat import MAX_IMAGE_BYTES, MAX_IMAGES, ChatImage, ImageType
from shared.logging import get_logger

log = get_logger("runs")

RECENT_MESSAGES = 10
"""Pictures of earlier messages are named only: they would be sent, and paid for, again in every turn."""

Attached = Mapping[str, Any]
"""A file as a message holds it: `id`, `name`, `content_type`, `size_bytes`."""


class AttachedFiles:
    """One per process. `bytes_at_once` is for the pictures of all its turns; a turn alone must have room in it."""

    def __init__(self, database: Database, storage: Storage, *, bytes_at_once: int) -> None:
        self._database = database
        self._storage = storage
        self._free = bytes_at_once
        self._next = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def room_for(self, history: Sequence[Exchange]) -> AsyncIterator[None]:
        """Keep room for a turn's pictures, for as long as it may send them: use `shown` within.

        Waits until there is some, one turn after the other, so that large ones are not overtaken for ever. A turn
        without pictures waits for nobody.
        """
        size = sum(file["size_bytes"] for file in _chosen(history))
        if size:
            async with self._next:
                while self._free < size:
                    self._freed.clear()
                    await self._freed.wait()
                self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()

    async def keys(self, history: Sequence[Exchange]) -> dict[str, str]:
        """Where the bytes of the pictures to show are stored, by their ids: one statement, where there are any."""
        ids = [UUID(file["id"]) for file in _chosen(history)]
        rows = await self._database.fetch_rows(STORED_AT, ids) if ids else []
        return {str(row["id"]): row["storage_key"] for row in rows}

    async def shown(self, history: Sequence[Exchange], keys: Mapping[str, str]) -> list[Exchange]:
        """The history with the newest pictures that have room, and the other files named in the text.

        A picture that several messages name is shown with the newest of them.
        """
        pictures = await self._read(list(_chosen(history)), keys)
        newest_first = [_with_files(one, pictures) if one.attachments else one for one in reversed(history)]
        return newest_first[::-1]

    async def _read(self, chosen: Sequence[Attached], keys: Mapping[str, str]) -> dict[str, ChatImage]:
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
    """The pictures to show, each once, the newest first. One that is too large leaves its room to others."""
    ids: set[str] = set()
    room = MAX_IMAGE_BYTES
    for exchange in reversed(history[-RECENT_MESSAGES:]):
        for file in exchange.attachments:
            if shown_image(file["content_type"]) is None or file["size_bytes"] > room or file["id"] in ids:
                continue
            if len(ids) == MAX_IMAGES:
                return
            ids.add(file["id"])
            room -= file["size_bytes"]
            yield file


def _with_files(exchange: Exchange, pictures: dict[str, ChatImage]) -> Exchange:
    """Takes the pictures that it shows out of `pictures`."""
    images, lines = [], [exchange.content]
    for file in exchange.attachments:
        picture = pictures.pop(file["id"], None)
        if picture is not None:
            images.append(picture)
        elif shown_image(file["content_type"]) is not None:
            lines.append(f"[image: {file['name']}, which is not shown here]")
        else:
            lines.append(f"[file: {file['name']}]")
    return replace(exchange, content="\n".join(lines), images=tuple(images))
