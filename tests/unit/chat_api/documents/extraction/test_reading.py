"""What is read out of each format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chat_api.documents.extraction.blocks import TextBlock
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.failure import ExtractionFailed, Failure
from chat_api.documents.extraction.reading import read_document
from tests.factories import document_files as files

Read = Callable[[bytes, DocumentFormat], list[TextBlock]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_bytes(content: bytes, document_format: DocumentFormat) -> list[TextBlock]:
        path = tmp_path / "document"
        path.write_bytes(content)
        return read_document(path, document_format, max_characters=4_000_000)

    return read_bytes


def under(*blocks: tuple[str, str | None]) -> list[TextBlock]:
    """Blocks without pages: text and heading of each."""
    return [TextBlock(text, None, heading) for text, heading in blocks]


class TestPlainText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Title\n\nHello.\n\n\n\nWorld.", ("Hello.\n\nWorld.", "Title")),
            ("\n\nTitle\r\n\r\nHello.", ("Hello.", "Title")),
            ("Two lines\nof text.\n\nHello.", ("Two lines\nof text.\n\nHello.", None)),
            ("Only a line", ("Only a line", None)),
            ("Title\n\n", ("Title", None)),
            ("t" * 201 + "\n\nHello.", ("t" * 201 + "\n\nHello.", None)),
        ],
    )
    def test_a_first_line_set_apart_is_its_title(self, read: Read, text: str, expected: tuple[str, str | None]) -> None:
        assert read(text.encode(), DocumentFormat.TEXT) == under(expected)

    def test_binary_data_that_was_let_through_is_unreadable(self, read: Read) -> None:
        with pytest.raises(ExtractionFailed) as failed:
            read(b"\x00" * 5000, DocumentFormat.TEXT)
        assert failed.value.failure is Failure.UNREADABLE


class TestMarkdown:
    def test_headings_above_are_joined(self, read: Read) -> None:
        text = b"Intro.\n\n# Harbour\nIt lies *north*.\n## Opening\n\nAt ten.\n\n### Sunday\nClosed.\n## Prices\n20."
        assert read(text, DocumentFormat.MARKDOWN) == under(
            ("Intro.", None),
            ("It lies *north*.", "Harbour"),
            ("At ten.", "Harbour › Opening"),
            ("Closed.", "Harbour › Opening › Sunday"),
            ("20.", "Harbour › Prices"),
        )

    def test_underlined_titles_are_headings(self, read: Read) -> None:
        text = b"Harbour\n=======\n\nText.\n\nPrices\n---\n20.\n\nTwo lines\nof prose\n---\nEnd."
        assert read(text, DocumentFormat.MARKDOWN) == under(
            ("Text.", "Harbour"), ("20.\n\nTwo lines\nof prose\n---\nEnd.", "Harbour › Prices")
        )

    @pytest.mark.parametrize(
        "text",
        [
            "```sh\n# no heading\n```",
            "~~~\n```\n# no\n~~~",
            "    # code",
            "- # item",
            "> # quoted",
            "#hashtag",
            "- a\n---",
        ],
    )
    def test_what_only_looks_like_a_heading_is_text(self, read: Read, text: str) -> None:
        assert read(f"# A\n\nx\n\n{text}".encode(), DocumentFormat.MARKDOWN) == under((f"x\n\n{text}", "A"))

    @pytest.mark.parametrize(
        ("title", "words"),
        [
            ("The [dock](https://example.org/x) *now* ##", "The dock now"),
            ("`snake_case` and **bold**", "snake_case and bold"),
            (r"1\. Not \*bold\*", "1. Not *bold*"),
            ("C#", "C#"),
        ],
    )
    def test_a_heading_is_what_a_reader_sees(self, read: Read, title: str, words: str) -> None:
        assert read(f"# {title}\n\nx".encode(), DocumentFormat.MARKDOWN) == under(("x", words))

    def test_comments_scripts_and_embedded_pictures_are_dropped(self, read: Read) -> None:
        text = (
            b"# A\n\n<!-- a\nsecret -->\n\nx ![p](data:image/png;base64,AAAA)\n\n<script>\nsteal()\n</script>\n\n"
            b"<!-- one -->\ny"
        )
        assert read(text, DocumentFormat.MARKDOWN) == under(("x ![p]()\n\ny", "A"))

    def test_the_title_of_front_matter_is_the_highest_heading(self, read: Read) -> None:
        text = b'---\ntitle: "Harbour"\ntags: [a]\n---\n\n# Prices\n\n20.'
        assert read(text, DocumentFormat.MARKDOWN) == under(("20.", "Harbour › Prices"))


class TestHtml:
    def test_only_what_a_reader_sees_is_kept(self, read: Read) -> None:
        assert read(files.HTML_WITH_SCRIPTS, DocumentFormat.HTML) == under(
            ("The harbour lies in the north.", "Harbour"),
            ("- Monday: ten\n- Sunday: closed", "Harbour › Opening hours"),
        )

    def test_the_title_stands_above_a_page_without_a_first_heading(self, read: Read) -> None:
        page = b"<html><title>Harbour &amp; port</title><p>Hello<br>there.</p><h2>Prices</h2>20<h2>Rules</h2>None"
        assert read(page, DocumentFormat.HTML) == under(
            ("Hello\nthere.", "Harbour & port"), ("20", "Harbour & port › Prices"), ("None", "Harbour & port › Rules")
        )

    def test_tables_are_lines_and_code_keeps_its_form(self, read: Read) -> None:
        page = b"<table><tr><th>Day</th><th>Time</th></tr><tr><td>Mon</td><td> 10 </td></tr></table><pre>a\n  b</pre>"
        assert read(page, DocumentFormat.HTML) == under(("Day | Time\nMon | 10\n\na\n  b", None))

    def test_its_declared_encoding_is_used(self, read: Read) -> None:
        page = '<html><meta charset="iso-8859-2"><p>Łódź</p>'.encode("iso8859-2")
        assert read(page, DocumentFormat.HTML) == under(("Łódź", None))

    @pytest.mark.parametrize("page", [b"<html><script>x</script></html>", b"<html><body hidden></body></html>", b"<"])
    def test_a_page_without_text_says_so(self, read: Read, page: bytes) -> None:
        if page == b"<":
            assert read(page, DocumentFormat.HTML) == under(("<", None))
            return
        with pytest.raises(ExtractionFailed) as failed:
            read(page, DocumentFormat.HTML)
        assert failed.value.failure is Failure.WITHOUT_TEXT


class TestDocx:
    def test_headings_are_found_by_style_in_any_language(self, read: Read) -> None:
        document = files.docx(
            "Intro.",
            ("Harbour", "Heading1"),
            "It lies north.",
            ("Preise", "berschrift2"),
            "20.",
            ("Other", "Mine"),
            "x",
        )
        assert read(document, DocumentFormat.DOCX) == under(
            ("Intro.", None), ("It lies north.", "Harbour"), ("20.", "Harbour › Preise"), ("x", "Other")
        )

    def test_tables_signs_and_notes_are_read(self, read: Read) -> None:
        cells = "".join(f"<w:tc>{files.docx_paragraph(text)}</w:tc>" for text in ("Mon", "ten"))
        body = (
            f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>"
            "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>"
        )
        document = files.docx_of(
            files.docx_paragraph("Title", "Heading1") + body, footnotes=files.docx_notes("A note.")
        )
        assert read(document, DocumentFormat.DOCX) == under(
            ("Mon | ten\nMon | ten\n\na\tb\nc", "Title"), ("A note.", None)
        )

    def test_deleted_moved_and_hidden_text_is_dropped(self, read: Read) -> None:
        body = (
            "<w:p><w:r><w:t>seen</w:t></w:r><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
            "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
            "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>.</w:t></w:r></w:p>"
        )
        assert read(files.docx_of(body), DocumentFormat.DOCX) == under(("seen.", None))

    @pytest.mark.parametrize(
        ("make", "failure"),
        [
            pytest.param(files.docx_with_entities, Failure.UNREADABLE, id="entities"),
            pytest.param(lambda: files.docx_of("<w:p><w:r>"), Failure.UNREADABLE, id="malformed"),
            pytest.param(lambda: files.docx("Hello. " * 900)[:700], Failure.UNREADABLE, id="truncated"),
            pytest.param(lambda: files.zip_file({"word/other.xml": "x"}), Failure.UNREADABLE, id="no-document"),
            pytest.param(files.docx, Failure.WITHOUT_TEXT, id="without-text"),
            pytest.param(files.docx_with_many_members, Failure.TOO_COMPLEX, id="many-members"),
        ],
    )
    def test_bad_files_fail_with_their_reason(self, read: Read, make: Callable[[], bytes], failure: Failure) -> None:
        with pytest.raises(ExtractionFailed) as failed:
            read(make(), DocumentFormat.DOCX)
        assert failed.value.failure is failure


class TestCsv:
    def test_a_row_is_a_paragraph_of_named_values(self, read: Read) -> None:
        table = b'day;time\r\nMon;"ten; sharp"\r\n\r\nTue;\r\nWed;two;extra\r\n'
        assert read(table, DocumentFormat.CSV) == under(
            ("day: Mon\ntime: ten; sharp\n\nday: Tue\n\nday: Wed\ntime: two\nColumn 3: extra", None)
        )

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_the_first_line_tells_the_delimiter(self, read: Read, delimiter: str) -> None:
        table = f'"a, b; c"{delimiter}d\n1{delimiter}2\n'
        assert read(table.encode(), DocumentFormat.CSV) == under(("a, b; c: 1\nd: 2", None))

    def test_a_header_alone_is_text(self, read: Read) -> None:
        assert read(b"day,time", DocumentFormat.CSV) == under(("day, time", None))

    def test_too_many_columns_are_refused(self, read: Read) -> None:
        with pytest.raises(ExtractionFailed, match="10,000 columns") as failed:
            read(files.csv(columns=10_000, rows=2), DocumentFormat.CSV)
        assert failed.value.failure is Failure.TOO_COMPLEX


class TestPdf:
    def test_pages_are_counted_from_one(self, read: Read) -> None:
        document = files.pdf([["The harbour (north)."], [], ["It closes at ten."]])
        assert read(document, DocumentFormat.PDF) == [
            TextBlock("The harbour (north).", 1, None),
            TextBlock("It closes at ten.", 3, None),
        ]

    def test_lines_and_divided_words_are_joined(self, read: Read) -> None:
        document = files.pdf(
            [["The harbour is open for inter-", "national ships and for all of its", "friends.", "It closes at ten."]]
        )
        assert read(document, DocumentFormat.PDF) == [
            TextBlock(
                "The harbour is open for international ships and for all of its friends.\nIt closes at ten.", 1, None
            )
        ]

    def test_a_password_that_is_empty_locks_nothing(self, read: Read) -> None:
        document = files.pdf([["The harbour."]], password="")
        assert read(document, DocumentFormat.PDF) == [TextBlock("The harbour.", 1, None)]

    @pytest.mark.parametrize(
        ("content", "failure", "reason"),
        [
            pytest.param(files.pdf([["Hello."]], password="x"), Failure.ENCRYPTED, "password", id="encrypted"),
            pytest.param(files.truncated_pdf(), Failure.UNREADABLE, "incomplete", id="truncated"),
            pytest.param(files.malformed_pdf(), Failure.UNREADABLE, "damaged", id="malformed"),
            pytest.param(b"%PDF-1.7\n", Failure.UNREADABLE, "damaged", id="header-alone"),
            pytest.param(files.pdf([[]] * 3), Failure.WITHOUT_TEXT, "OCR", id="scanned"),
            pytest.param(files.pdf([["x"]] * 100), Failure.WITHOUT_TEXT, "OCR", id="one-glyph-a-page"),
            pytest.param(files.pdf([["x" * 80] * 40] * 100), Failure.WITHOUT_TEXT, "OCR", id="one-glyph-repeated"),
        ],
    )
    def test_bad_files_fail_with_their_reason(self, read: Read, content: bytes, failure: Failure, reason: str) -> None:
        with pytest.raises(ExtractionFailed, match=reason) as failed:
            read(content, DocumentFormat.PDF)
        assert failed.value.failure is failure
