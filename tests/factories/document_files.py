"""Documents as people upload them, good and bad, made in memory."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82"
)
EXECUTABLE = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + bytes(range(256)) * 8
BINARY = bytes((index * 167 + 13) % 256 for index in range(4096))

HTML_WITH_SCRIPTS = b"""<!DOCTYPE html><html><head><title>Harbour</title><style>p { color: red }</style>
<script>document.write("stolen")</script></head><body onload="stolen()">
<!-- a secret remark --><h1>Harbour</h1><p>The harbour <b>lies</b> in the north.</p>
<script type="text/javascript">steal("<p>stolen</p>")</script><noscript>Turn scripts on</noscript>
<div hidden>hidden words<div>more hidden words</div></div><p style="color:red; display : none">invisible words</p>
<h2>Opening hours</h2><ul><li>Monday: ten</li><li>Sunday: closed</li></ul><svg><text>drawn</text></svg>
<template><p>template words</p></template></body></html>"""

_PDF_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_PDF_PERMISSIONS = -4
_FAST = 1
"""How hard bombs are packed: what repeats itself gets hardly smaller with more effort."""


def text(*paragraphs: str) -> bytes:
    return "\n\n".join(paragraphs).encode()


def csv(columns: int, rows: int) -> bytes:
    lines = [",".join(f"column{number}" for number in range(columns))]
    lines += [",".join(f"r{row}c{number}" for number in range(columns)) for row in range(rows)]
    return "\n".join(lines).encode()


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


class _PdfEncryption:
    """The standard security handler, revision 2: 40 bits of RC4. Enough to lock a test's file."""

    def __init__(self, password: str) -> None:
        padded = (password.encode() + _PDF_PADDING)[:32]
        self.identifier = b"0123456789abcdef"
        self._owner = _rc4(_md5(padded)[:5], padded)
        permissions = _PDF_PERMISSIONS.to_bytes(4, "little", signed=True)
        self._key = _md5(padded + self._owner + permissions + self.identifier)[:5]
        self._user = _rc4(self._key, _PDF_PADDING)

    def dictionary(self) -> bytes:
        return (
            f"<< /Filter /Standard /V 1 /R 2 /P {_PDF_PERMISSIONS} /O <{self._owner.hex()}> /U <{self._user.hex()}> >>"
        ).encode()

    def encrypt(self, number: int, data: bytes) -> bytes:
        return _rc4(_md5(self._key + number.to_bytes(3, "little") + b"\x00\x00")[:10], data)


def _page_content(lines: Sequence[str]) -> bytes:
    shown = [b"BT /F1 11 Tf 72 760 Td 14 TL"]
    for line in lines:
        safe = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        shown.append(b"(" + safe.encode("cp1252", "replace") + b") Tj T*")
    shown.append(b"ET")
    return b"\n".join(shown)


def pdf(pages: Iterable[Sequence[str]], *, password: str | None = None, compress: bool = True) -> bytes:
    """One page for each list of lines. With a password it opens for nobody who does not know it."""
    encryption = _PdfEncryption(password) if password is not None else None
    contents = [_page_content(lines) for lines in pages]
    numbers = [4 + 2 * index for index in range(len(contents))]
    objects: dict[int, bytes] = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Count {len(numbers)} /Kids [{' '.join(f'{n} 0 R' for n in numbers)}] >>".encode(),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    }
    for number, content in zip(numbers, contents, strict=True):
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        ).encode()
        data = zlib.compress(content) if compress else content
        if encryption is not None:
            data = encryption.encrypt(number + 1, data)
        objects[number + 1] = _pdf_stream(data, "/Filter /FlateDecode" if compress else "")
    trailer = ""
    if encryption is not None:
        lock = max(objects) + 1
        objects[lock] = encryption.dictionary()
        trailer = f"/Encrypt {lock} 0 R /ID [<{encryption.identifier.hex()}> <{encryption.identifier.hex()}>]"
    return _pdf_file(objects, trailer)


def _pdf_stream(data: bytes, entries: str = "") -> bytes:
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def _pdf_file(objects: dict[int, bytes], trailer: str = "") -> bytes:
    """Objects 1 to n with their table; the first is the catalogue."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets: dict[int, int] = {}
    for number in sorted(objects):
        offsets[number] = out.tell()
        out.write(f"{number} 0 obj\n".encode() + objects[number] + b"\nendobj\n")
    table = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.writelines(f"{offsets[number]:010d} 00000 n \n".encode() for number in sorted(objects))
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def truncated_pdf() -> bytes:
    """Cut in the middle of its first page's content."""
    whole = pdf([["The harbour closes at ten in the evening."] * 40], compress=False)
    return whole[: len(whole) // 3]


def malformed_pdf() -> bytes:
    return b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 99 0 R >>\nendobj\n" + BINARY + b"\n%%EOF\n"


def _packed_again_and_again(block: bytes, times: int) -> bytes:
    """A zlib stream of `block` repeated, for which the block is packed once only."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # after which nothing refers to what was before
    checksum = 1
    for _ in range(times):
        checksum = zlib.adler32(block, checksum)
    return b"\x78\xda" + packed * times + packer.flush() + checksum.to_bytes(4)


@functools.cache
def pdf_bomb(megabytes: int = 400) -> bytes:
    """A page whose content is a few kilobytes, and hundreds of megabytes when it is unpacked, twice over."""
    once = _packed_again_and_again(b"q " * 524_288, megabytes)
    return _pdf_file(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>",
            4: _pdf_stream(zlib.compress(once, 9), "/Filter [/FlateDecode /FlateDecode]"),
        }
    )


_CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_STYLES = (
    f"<w:styles {_WORD}>"
    '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Heading1"/></w:style>'
    "</w:styles>"
)


def zip_file(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def docx_of(body: str, *, prolog: str = "", **members: str) -> bytes:
    """A DOCX whose body is the XML given. More members by their name in `word/`, without the ending."""
    return zip_file(
        {
            "[Content_Types].xml": _CONTENT_TYPES,
            "word/document.xml": f"{prolog}<w:document {_WORD}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": _STYLES,
            **{f"word/{name}.xml": content for name, content in members.items()},
        }
    )


def docx_paragraph(content: str, style: str | None = None) -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style is not None else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{escape(content)}</w:t></w:r></w:p>'


def docx(*paragraphs: str | tuple[str, str]) -> bytes:
    """Paragraphs, or pairs of a text and its style (`Heading1`, `berschrift2`)."""
    parts = [docx_paragraph(p) if isinstance(p, str) else docx_paragraph(*p) for p in paragraphs]
    return docx_of("".join(parts))


def docx_notes(content: str) -> str:
    """The part `footnotes`."""
    return f"<w:footnotes {_WORD}><w:footnote>{docx_paragraph(content)}</w:footnote></w:footnotes>"


@functools.cache
def docx_bomb(megabytes: int = 300) -> bytes:
    """Two megabytes that unpack to hundreds of megabytes of one paragraph after the other."""
    return docx_of(docx_paragraph("a" * 1000) * 1000 * megabytes)


def docx_that_lies() -> bytes:
    """As large, but it declares a kilobyte."""
    bomb = bytearray(docx_bomb())
    listed = bomb.rfind(b"PK\x01\x02", 0, bomb.rfind(b"word/document.xml"))
    bomb[listed + 24 : listed + 28] = (1024).to_bytes(4, "little")
    return bytes(bomb)


def docx_with_entities() -> bytes:
    """Entities that stand for entities: ten levels of ten."""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return docx_of("<w:p><w:r><w:t>&e9;</w:t></w:r></w:p>", prolog=f'<!DOCTYPE d [<!ENTITY e0 "ha">{levels}]>')


def docx_with_many_members(members: int = 6_000) -> bytes:
    return docx_of(docx_paragraph("Hello."), **{f"part{number:0200}": "" for number in range(members)})
