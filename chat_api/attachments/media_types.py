"""What a file is, by its content, and how it may be shown."""

from __future__ import annotations

from typing import BinaryIO

from chat_api.attachments.errors import EmptyAttachment
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.extraction.formats import detect
from shared.contracts.chat import ImageType

OCTET_STREAM = "application/octet-stream"
_HEAD_BYTES = 64
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_SMALLEST_PNG = 33  # the signature and the header
_GIF = (b"GIF87a", b"GIF89a")
_SMALLEST_GIF = 13
_WEBP_KINDS = (b"VP8 ", b"VP8L", b"VP8X")


def media_type(content: BinaryIO, name: str) -> str:
    """The media type of a file. Its content decides; the name only tells kinds of text apart.

    What is not known is `application/octet-stream`. Blocks like any file: call it in a thread. Raises
    `EmptyAttachment` for a file of no bytes.
    """
    head = content.read(_HEAD_BYTES)
    if not head:
        raise EmptyAttachment(f"{name!r} is empty.")
    image = image_type(head)
    if image is not None:
        return image.value
    try:
        return detect(content, name).content_type
    except EmptyDocument:  # white space
        return DocumentFormat.TEXT.content_type
    except UnsupportedDocument:
        return OCTET_STREAM


def image_type(head: bytes) -> ImageType | None:
    """Which picture a file begins as, of those that a browser shows without running anything in it."""
    if head.startswith(_PNG) and len(head) >= _SMALLEST_PNG:
        return ImageType.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return ImageType.JPEG
    if head.startswith(_GIF) and len(head) >= _SMALLEST_GIF:
        return ImageType.GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] in _WEBP_KINDS:
        return ImageType.WEBP
    return None


def shown_image(content_type: str) -> ImageType | None:
    """The picture that a stored type stands for; None for what is never shown, but downloaded."""
    try:
        return ImageType(content_type)
    except ValueError:
        return None
