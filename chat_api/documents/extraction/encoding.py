"""Bytes to text, and text to what can be stored and read."""

from __future__ import annotations

import codecs
import re
import sys

REPLACEMENT = "\ufffd"

_SAMPLE_BYTES = 64 * 1024
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL_BYTES = bytes({*range(0x20), 0x7F} - {*b"\t\n\f\r\x1a\x1b"})
_MAX_CONTROL_SHARE = 0.005

_MANY_BLANK_LINES = re.compile(r"\n{3,}")
_CLEANED = {
    **dict.fromkeys({*range(0x20), *range(0x7F, 0xA1)} - {0x09, 0x0A}, " "),
    **dict.fromkeys((0x0B, 0x0C, 0x85, 0x2028, 0x2029), "\n"),
    0x00: REPLACEMENT,
    # What only tells a printer where a word may be cut, or nothing at all.
    **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF), ""),
}
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u200b\u2028\u2029\u2060\ufeff\ud800-\udfff]")


def byte_order_mark(data: bytes) -> tuple[int, str] | None:
    """How many bytes the mark takes, and the encoding it stands for."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return len(mark), encoding
    return None


def looks_binary(head: bytes) -> bool:
    """Whether the beginning of a file is no text in any encoding that is read here."""
    if byte_order_mark(head) is not None:
        return False
    if b"\x00" in head:
        return True
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    return controls > len(head) * _MAX_CONTROL_SHARE


def decode(data: bytes, declared: str | None = None) -> str:
    """By its byte order mark, as UTF-8, as it declares itself, or as it looks; never fails.

    Bytes that fit no encoding become U+FFFD.
    """
    mark = byte_order_mark(data)
    if mark is not None:
        return data[mark[0] :].decode(mark[1], "replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        # One spoilt byte, or a cut at the end, makes no other encoding of a text that is UTF-8 until there.
        if _is_mostly_utf8(data[: error.start]):
            return data.decode(errors="replace")
    return data.decode(_known(declared) or _guess(data), "replace")


def _is_mostly_utf8(valid: bytes) -> bool:
    return not valid.isascii()


def _known(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        return None
    # Browsers read Latin-1 as Windows's, which has letters where Latin-1 has controls.
    name = "cp1252" if codec.name in {"iso8859-1", "ascii", "utf-8"} else codec.name
    return name if _is_text_encoding(name) else None


def _is_text_encoding(name: str) -> bool:
    try:
        return isinstance(b"a".decode(name, "replace"), str)
    except LookupError:  # base64, zlib and other codecs that make bytes of bytes
        return False


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - a tenth of a second that most documents do without

    # Where the first byte beyond ASCII stands tells most.
    first = next((index for index in range(0, len(data), 4096) if not data[index : index + 4096].isascii()), 0)
    best = from_bytes(data[max(0, first - 4096) : first + _SAMPLE_BYTES], steps=8, chunk_size=1024).best()
    return best.encoding if best is not None else "cp1252"


def clean(text: str) -> str:
    """What a database stores and a person reads: no NUL, no lone surrogate, no control, no run of blank lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _UNCLEAN.search(text) is not None:
        # Halves of a pair that stand together become their character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").translate(_CLEANED)
    if " \n" in text or "\t\n" in text:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    return _MANY_BLANK_LINES.sub("\n\n", text)


def one_line(text: str) -> str:
    """Cleaned, every run of white space one space. Interned: headings repeat."""
    return sys.intern(" ".join(clean(text).split()))
