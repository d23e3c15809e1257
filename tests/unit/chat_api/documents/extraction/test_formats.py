"""A file's content says what it is."""

from __future__ import annotations

import io

import pytest

from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.extraction.formats import HEAD_BYTES, DocumentFormat, detect
from tests.factories import document_files as files

WORD_OF_MOUTH = "Grüße aus dem Hafen. Привет. こんにちは。"


def detected(content: bytes, name: str = "file") -> DocumentFormat:
    return detect(io.BytesIO(content), name)


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.docx", "a"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(files.pdf([["Hello."]]), DocumentFormat.PDF, id="pdf"),
        pytest.param(b"\x00\x01 junk before\n" + files.pdf([["Hello."]]), DocumentFormat.PDF, id="pdf-after-junk"),
        pytest.param(files.truncated_pdf(), DocumentFormat.PDF, id="truncated-pdf"),
        pytest.param(files.docx("Hello."), DocumentFormat.DOCX, id="docx"),
        pytest.param(files.HTML_WITH_SCRIPTS, DocumentFormat.HTML, id="html"),
        pytest.param(b"\xef\xbb\xbf<!-- saved --> <HTML><body>Hello", DocumentFormat.HTML, id="html-after-comment"),
        pytest.param(files.text("Hello."), DocumentFormat.TEXT, id="text"),
        pytest.param(WORD_OF_MOUTH.encode("utf-16"), DocumentFormat.TEXT, id="utf-16"),
        pytest.param("Grüße aus dem Hafen".encode("cp1252"), DocumentFormat.TEXT, id="cp1252"),
        pytest.param(b"MZ is how a program begins, and so does this text.", DocumentFormat.TEXT, id="text-like-exe"),
        pytest.param(b"A file that begins with %PDF- is a PDF.", DocumentFormat.TEXT, id="text-about-pdf"),
        pytest.param(b"a < b and b > c", DocumentFormat.TEXT, id="text-with-signs"),
    ],
)
def test_the_name_does_not_matter(name: str, content: bytes, expected: DocumentFormat) -> None:
    assert detected(content, name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.md", DocumentFormat.MARKDOWN),
        ("A.MARKDOWN", DocumentFormat.MARKDOWN),
        ("a.csv", DocumentFormat.CSV),
        ("a.tsv", DocumentFormat.CSV),
        ("a.txt", DocumentFormat.TEXT),
        ("csv", DocumentFormat.TEXT),
        ("a.pdf", DocumentFormat.TEXT),
    ],
)
def test_the_name_tells_text_markdown_and_csv_apart(name: str, expected: DocumentFormat) -> None:
    assert detected(b"# A, b\n", name) is expected


def test_markdown_may_begin_with_a_tag() -> None:
    assert detected(b"<p align=center>Logo</p>\n\n# Harbour", "README.md") is DocumentFormat.MARKDOWN


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.docx"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(files.PNG, "PNG", id="png"),
        pytest.param(files.EXECUTABLE, "program", id="exe"),
        pytest.param(files.BINARY, "binary", id="binary"),
        pytest.param(b"Hello.\x00 World.", "binary", id="nul"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "password", id="locked-docx"),
        pytest.param(files.zip_file({"a.txt": "Hello."}), "ZIP", id="zip"),
        pytest.param(files.zip_file({}), "ZIP", id="empty-zip"),
        pytest.param(files.zip_file({"xl/workbook.xml": "", "[Content_Types].xml": ""}), "Excel", id="xlsx"),
        pytest.param(files.docx("Hello. " * 500)[:-30], "damaged", id="truncated-docx"),
        pytest.param(b'<?xml version="1.0"?><svg xmlns="x"></svg>', "SVG", id="svg"),
    ],
)
def test_what_is_not_read_is_named(name: str, content: bytes, what: str) -> None:
    with pytest.raises(UnsupportedDocument, match=what) as refused:
        detected(content, name)
    assert refused.value.status == 415
    assert "DOCX" in refused.value.detail


@pytest.mark.parametrize("content", [b"", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xff\xfe \x00"])
def test_nothing_is_an_empty_document(content: bytes) -> None:
    with pytest.raises(EmptyDocument):
        detected(content)


def test_an_archive_of_very_many_members_is_refused_without_listing_them() -> None:
    with pytest.raises(UnsupportedDocument, match="oversized"):
        detected(files.docx_with_many_members(9_000))


class _Watched(io.BytesIO):
    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece


def test_little_of_a_large_file_is_read_and_it_is_left_at_its_beginning() -> None:
    large = _Watched(b"Hello. " * 1_000_000)
    detect(large, "a.txt")
    assert large.taken == HEAD_BYTES
    assert large.tell() == 0


def test_every_format_has_its_own_content_type() -> None:
    assert len({each.content_type for each in DocumentFormat}) == len(DocumentFormat)
