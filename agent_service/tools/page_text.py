"""Bytes of the web to text, by the encodings of the web alone.

Python knows more: some of its codecs run code paths made for other things than text, and take time that grows with
the square of the length.
"""

from __future__ import annotations

import codecs
import re

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# By Python's names. Where browsers read a label as a larger relative of it, so does this.
_READ_AS = {
    **{
        name: name
        for name in (
            "utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255",
            "cp1256", "cp1257", "cp1258", "cp866", "cp874", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5",
            "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15",
            "iso8859-16", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "gb18030", "big5hkscs", "euc_jp",
            "iso2022_jp", "cp932", "cp949",
        )
    },
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949",
}  # fmt: skip

_HEAD_BYTES = 4096
_SAMPLE_BYTES = 32 * 1024
_IN_HEADER = re.compile(r";\s*charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:\-]{2,40})", re.IGNORECASE)
_IN_PAGE = re.compile(
    rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:\-]{2,40})"
    rb"|<\?xml\b[^>]{0,200}?encoding\s*=\s*[\"']\s*([A-Za-z0-9_.:\-]{2,40})",
    re.IGNORECASE,
)


def decoded(body: bytes, content_type: str) -> str | None:
    """The text, with U+FFFD for what fits no character; None where the body is no text.

    The byte order mark goes before the header, the header before what the page says, all before a guess.
    """
    for mark, marked in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, "replace")
    declared = _IN_HEADER.search(content_type)
    encoding = _known(declared[1]) if declared is not None else None
    if encoding is None:
        if b"\x00" in body[:_HEAD_BYTES]:
            return None
        encoding = _of_page(body) or _guessed(body)
    return body.decode(encoding, "replace")


def _known(label: str) -> str | None:
    try:
        return _READ_AS.get(codecs.lookup(label).name)
    except (LookupError, ValueError):
        return None


def _of_page(body: bytes) -> str | None:
    declared = _IN_PAGE.search(body, 0, _HEAD_BYTES)
    if declared is None:
        return None
    encoding = _known((declared[1] or declared[2]).decode("ascii"))
    # A page whose declaration can be read as bytes is not in UTF-16, whatever it says.
    return "utf-8" if encoding is not None and encoding.startswith("utf-16") else encoding


def _guessed(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        # One spoilt byte, or a cut at the end, makes no other encoding of what is UTF-8 until there.
        if not body[: error.start].isascii():
            return "utf-8"
        from charset_normalizer import from_bytes  # noqa: PLC0415 - a tenth of a second that most pages do without

        sample = body[max(0, error.start - 1024) : error.start + _SAMPLE_BYTES]
        best = from_bytes(sample, steps=8, chunk_size=1024).best()
        return (_known(best.encoding) if best is not None else None) or "cp1252"
    return "utf-8"
