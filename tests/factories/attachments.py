"""Files to name in messages, uploaded as a client does it."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import httpx

from tests.factories.chat import API, ChatApi, Json, Person


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(padding: int = 0) -> bytes:
    """A picture of one pixel, with some bytes of comment."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    comment = _chunk(b"tEXt", b"Comment\0" + b"x" * padding) if padding else b""
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\xff"))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + comment + pixel + _chunk(b"IEND", b"")


PNG = png()
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9"
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"


async def attach(
    chat: ChatApi,
    person: Person,
    name: str = "harbour.png",
    content: bytes = PNG,
    *,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    return await chat.client.post(
        f"{API}/attachments", files={"file": (name, content)}, headers=person.headers | (headers or {})
    )


async def attached(chat: ChatApi, person: Person, name: str = "harbour.png", content: bytes = PNG) -> Json:
    answer = await attach(chat, person, name, content)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def fetch(chat: ChatApi, person: Person, attachment: Json) -> httpx.Response:
    return await chat.client.get(f"{API}/attachments/{attachment['id']}", headers=person.headers)


def named(attachment: Json) -> Json:
    """As a message shows it."""
    shown: dict[str, Any] = {name: attachment[name] for name in ("id", "name", "content_type", "size_bytes")}
    return shown
