"""Which format a file is. Its content decides; its name only tells plain text, Markdown and CSV apart."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import BinaryIO

from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.encoding import byte_order_mark, looks_binary
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument

__all__ = ["HEAD_BYTES", "DocumentFormat", "detect"]

HEAD_BYTES = 64 * 1024
"""What is looked at in most files."""

_PDF_WITHIN = 1024
_NAMED = {
    ".md": DocumentFormat.MARKDOWN, ".markdown": DocumentFormat.MARKDOWN, ".mdown": DocumentFormat.MARKDOWN,
    ".mkd": DocumentFormat.MARKDOWN, ".csv": DocumentFormat.CSV, ".tsv": DocumentFormat.CSV,
}  # fmt: skip
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"RIFF", "a picture, sound or film"),
    (b"\x00\x00\x00\x18ftyp", "a film"),
    (b"\x00\x00\x00\x20ftyp", "a film"),
    (b"ID3", "a sound"),
    (b"OggS", "a sound or film"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document, or one that is locked with a password"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
    (b"\x7fELF", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"MZ", "a program"),
    (b"\x1f\x8b", "a compressed file"),
    (b"BZh", "a compressed file"),
    (b"\xfd7zXZ\x00", "a compressed file"),
    (b"(\xb5/\xfd", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3\x00", "a database"),
)
# Signatures that are also words: only with binary data behind them.
_WORDLIKE = {b"MZ", b"RIFF", b"ID3", b"BZh", b"GIF8", b"OggS", b"Rar!"}

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_ZIP_COMMENT_BYTES = 65_535
_ZIP_LIST_BYTES = 2 * 1024 * 1024
_ZIP_CONTENTS = (
    (b"xl/workbook.", "an Excel table (save the sheet as CSV)"),
    (b"ppt/presentation.", "a PowerPoint presentation (export it as PDF)"),
    (b"META-INF/container.xml", "an e-book (EPUB)"),
    (b"content.xml", "an OpenDocument file (save it as DOCX or PDF)"),
)

_HTML_START = re.compile(
    rb"(?:\s|<!--.{0,4000}?-->|<\?xml[^>]{0,200}\?>)*<(?:!doctype\s+html|html|head|body|title|meta|h[1-6]|div|p|table"
    rb"|article|main|section|ul|ol)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_SVG_START = re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!doctype\s+svg[^>]{0,300}>\s*)?<svg[\s>]", re.IGNORECASE)


def detect(content: BinaryIO, name: str) -> DocumentFormat:
    """Reads 64 KiB of a file, and a ZIP archive's list of members, without unpacking anything.

    `content` can be sought in, and is left at its beginning. Blocks like any file: call it in a thread. Raises
    `EmptyDocument` and `UnsupportedDocument`.
    """
    content.seek(0)
    try:
        return _detect(content, content.read(HEAD_BYTES), name)
    finally:
        content.seek(0)


def _detect(content: BinaryIO, head: bytes, name: str) -> DocumentFormat:
    if not head:
        raise EmptyDocument
    is_binary = looks_binary(head)
    if head.lstrip().startswith(b"%PDF-") or (is_binary and b"%PDF-" in head[:_PDF_WITHIN]):
        return DocumentFormat.PDF
    if head.startswith(_ZIP_STARTS):
        return _in_archive(_zip_member_list(content))
    for signature, what in _SIGNATURES:
        if head.startswith(signature) and (is_binary or signature not in _WORDLIKE):
            raise _unsupported(what)
    if is_binary:
        raise _unsupported("binary data, not text")
    return _text_format(head, name)


def _text_format(head: bytes, name: str) -> DocumentFormat:
    mark = byte_order_mark(head)
    sample = head
    if mark is not None:
        sample = head[mark[0] :].decode(mark[1], "replace").encode()
    if not sample.strip() and len(head) < HEAD_BYTES:
        raise EmptyDocument("There is nothing in the file but white space.")
    if _SVG_START.match(sample):
        raise _unsupported("an SVG picture")
    named = _NAMED.get(PurePath(name).suffix.lower())
    # Markdown may begin with a tag of HTML.
    if named is None and _HTML_START.match(sample):
        return DocumentFormat.HTML
    return named or DocumentFormat.TEXT


def _unsupported(what: str) -> UnsupportedDocument:
    return UnsupportedDocument(
        f"The file looks like {what}. PDF, DOCX, HTML, Markdown, plain text and CSV are read; the content decides, "
        "not the file's name."
    )


def _in_archive(members: bytes | None) -> DocumentFormat:
    if members is None:
        raise _unsupported("a damaged or oversized ZIP archive")
    if b"word/document.xml" in members and b"[Content_Types].xml" in members:
        return DocumentFormat.DOCX
    for name, what in _ZIP_CONTENTS:
        if name in members:
            raise _unsupported(what)
    raise _unsupported("a ZIP archive")


def _zip_member_list(content: BinaryIO) -> bytes | None:
    """The archive's own list of its members, as it stands in the file; nothing where there is none of a sane size.

    zipfile would make an object of each of the hundred thousands of members that a small file can list.
    """
    size = content.seek(0, os.SEEK_END)
    tail_start = max(0, size - _ZIP_COMMENT_BYTES - _ZIP_END_BYTES)
    content.seek(tail_start)
    tail = content.read()
    end = tail.rfind(_ZIP_END)
    if end < 0 or len(tail) - end < _ZIP_END_BYTES:
        return None
    locator = end - _ZIP64_LOCATOR_BYTES
    list_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    start = tail_start + end - list_bytes
    if list_bytes > _ZIP_LIST_BYTES or start < 0 or (locator >= 0 and tail[locator : locator + 4] == _ZIP64_LOCATOR):
        return None
    content.seek(start)
    return content.read(list_bytes)
